"""`tfbig measure`: the figures of one file."""

from __future__ import annotations

import argparse
import dataclasses

from tfbig.cli import options
from tfbig.cli.terminal import import_tensorflow, print_json

HELP = "measure a file: quality, bytes, zeros, latency"
EXAMPLE = "tfbig measure my_model.tflite --data digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a .tflite, .keras or .h5 file, or a SavedModel folder")
    options.add_data(parser, required=False)
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the interpreter (default 1)")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="timed invocations (default 50)")
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> None:
    import_tensorflow()
    import tfbig

    data = options.load_data(arguments) if arguments.data else None
    measurement = tfbig.measure(arguments.file, data, threads=arguments.threads, runs=arguments.runs)
    values = dataclasses.asdict(measurement)
    if arguments.json:
        print_json(values)
    else:
        for name, value in values.items():
            if value is not None:
                print(f"{name.replace('_', ' '):18} {value:,}" if isinstance(value, int) else f"{name.replace('_', ' '):18} {value}")
