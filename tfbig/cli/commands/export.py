"""`tfbig export`: a model file into another format."""

from __future__ import annotations

import argparse

from tfbig.cli import options
from tfbig.cli.terminal import import_tensorflow, print_json

HELP = "write a model as LiteRT, SavedModel, ONNX or .keras, quantized on request"
EXAMPLE = "tfbig export my_model.keras my_model.tflite --quantize int8 --data images:photos/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .keras, .h5 or SavedModel file")
    parser.add_argument("output", metavar="OUT_FILE", help="the suffix chooses the format; none means SavedModel")
    parser.add_argument("--quantize", metavar="SCHEME", help="dynamic, float16, int8, int16x8, int4, weight_only_int8 or _int4")
    options.add_data(parser, required=False)
    options.add_overwrite(parser)
    options.add_unsafe(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> None:
    from tfbig.files import refuse_existing

    refuse_existing(arguments.output, arguments.overwrite)
    import_tensorflow()
    import tfbig

    model = tfbig.load(arguments.model, unsafe=arguments.unsafe)
    calibration = options.load_data(arguments, model).train if arguments.data else None
    path = tfbig.export(model, arguments.output, quantize=arguments.quantize, calibration=calibration, overwrite=True)
    if arguments.json:
        print_json({"file": str(path)})
    elif not arguments.quiet:
        print(f"Wrote {path}")
