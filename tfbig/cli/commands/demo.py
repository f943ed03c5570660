"""`tfbig demo`: the whole way on handwritten digits, without network or files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tfbig.cli import options
from tfbig.cli.terminal import show_result, verbosity
from tfbig.files import refuse_existing

HELP = "train, prune, quantize, export and measure a small network on handwritten digits"
EXAMPLE = "tfbig demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="saved_models/demo", metavar="DIR", help="default saved_models/demo")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of training (default 0)")
    options.add_overwrite(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    refuse_existing(arguments.out, arguments.overwrite)
    from tfbig.pipeline.demo import demo

    demo(arguments.out, seed=arguments.seed, overwrite=arguments.overwrite, verbose=verbosity(arguments))
    return show_result(Path(arguments.out), arguments)
