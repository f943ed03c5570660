"""`tfbig demo`: the whole way on handwritten digits, without network or files."""

from __future__ import annotations

import argparse

from tfbig.cli import options
from tfbig.cli.terminal import import_tensorflow, print_json, verbosity

HELP = "train, prune, quantize, export and measure a small network on handwritten digits"
EXAMPLE = "tfbig demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", default="saved_models/demo", metavar="DIR", help="default saved_models/demo")
    parser.add_argument("--seed", type=int, default=0, help="of training (default 0)")
    options.add_overwrite(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> None:
    import_tensorflow()
    from tfbig.pipeline.demo import demo

    result = demo(arguments.out, seed=arguments.seed, overwrite=arguments.overwrite, verbose=verbosity(arguments))
    if arguments.json:
        print_json(result.report.to_dict())
    else:
        print(f"\n{result}\n\nThe files and report.html are in {arguments.out}")
