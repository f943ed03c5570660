"""`tfbig inspect`: the operations of a LiteRT file."""

from __future__ import annotations

import argparse
from typing import Any

from tfbig.cli import options

HELP = "show what is inside a LiteRT file, and which operations stayed float and why"
EXAMPLE = "tfbig inspect my_model.tflite"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .tflite file")
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    import tfbig

    inspection = tfbig.inspect(arguments.file)
    if not arguments.json:
        print(inspection)
    return inspection.to_dict()
