"""`tfbig migrate`: a model of TFMOT or of an old Keras into a file of today."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from tfbig.cli import options
from tfbig.files import refuse_existing

HELP = "bring a model of TFMOT or of an old Keras to Keras 3, with its masks, clusters and ranges"
EXAMPLE = "tfbig migrate qat_model.h5 qat_model.keras"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("output", metavar="OUT_FILE", help="a .keras file, or one in any format of tfbig export")
    parser.add_argument(
        "--architecture", metavar="FILE", help="for a QAT checkpoint: the model from before quantize_model"
    )
    options.add_overwrite(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    refuse_existing(arguments.output, arguments.overwrite)
    import tfbig
    from tfbig.compression.tfmot.migrate import summary

    model = tfbig.migrate(arguments.model, architecture=arguments.architecture, unsafe=arguments.unsafe)
    path = tfbig.export(model, arguments.output, overwrite=True)
    found = summary(model)
    if not (arguments.json or arguments.quiet):
        quantized = f"; quantized layers, with their ranges: {found.quantized_layers}" if found.quantized_layers else ""
        print(f"Wrote {path}: {found.parameters:,} parameters, {found.zero_fraction:.1%} zeros{quantized}")
    return {"file": str(path), **dataclasses.asdict(found)}
