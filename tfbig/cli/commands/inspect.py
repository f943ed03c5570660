"""`tfbig inspect`: the operations of a LiteRT file."""

from __future__ import annotations

import argparse

from tfbig.cli import options
from tfbig.cli.terminal import print_json

HELP = "show what is inside a LiteRT file, and which operations stayed float and why"
EXAMPLE = "tfbig inspect my_model.tflite"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .tflite file")
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> None:
    import tfbig

    inspection = tfbig.inspect(arguments.file)
    if arguments.json:
        print_json(inspection.to_dict())
    else:
        print(inspection)
