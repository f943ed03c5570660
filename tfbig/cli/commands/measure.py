"""`tfbig measure`: the figures of one file."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

from tfbig.cli import options

HELP = "measure a file: quality, bytes, zeros, latency"
EXAMPLE = "tfbig measure my_model.tflite --data digits"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", help="a .tflite, .onnx, .keras, .h5 or .cc file, or a SavedModel folder"
    )
    options.add_data(parser, required=False)
    parser.add_argument(
        "--metric", metavar="NAME", help="accuracy, top5_accuracy, f1, mae, mse or rmse (default: by the labels)"
    )
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of the interpreter (default 1)")
    parser.add_argument("--runs", type=int, default=50, metavar="N", help="timed invocations (default 50)")
    parser.add_argument("--no-xnnpack", action="store_true", help="time LiteRT's own kernels, without its delegate")
    parser.add_argument("--against", metavar="FILE", help="time FILE and this .tflite in turns, and print the ratio")
    parser.add_argument("--commands", action="store_true", help="print the commands that time it on an Android phone")
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    import tfbig
    from tfbig.measurement.compare import compare
    from tfbig.measurement.phone import benchmark_commands

    comparison = None
    if arguments.against:
        comparison = compare(arguments.against, arguments.file, threads=arguments.threads, rounds=arguments.runs)
    commands = benchmark_commands(arguments.file, threads=arguments.threads) if arguments.commands else []
    data = options.load_data(arguments) if arguments.data else None
    measurement = tfbig.measure(
        arguments.file,
        data,
        threads=arguments.threads,
        runs=arguments.runs,
        xnnpack=not arguments.no_xnnpack,
        metric=arguments.metric,
    )
    if not arguments.json:
        for name, text in _lines(measurement):
            print(f"{name:24} {text}")
        for line in ([str(comparison)] if comparison else []) + commands:
            print(line)
    return {
        **dataclasses.asdict(measurement),
        **({"comparison": dataclasses.asdict(comparison)} if comparison else {}),
        **({"commands": commands} if commands else {}),
    }


def _lines(m: Any) -> list[tuple[str, str]]:
    from tfbig.report.figures import count_text, latency_text, percent_text, quality_text

    quality = [
        (m.quality_name.replace("_", " "), f"{quality_text(m.quality, m.quality_name)} on {m.samples:,} samples")
    ]
    threads = "1 thread" if m.threads == 1 else f"{m.threads} threads"
    latency = [
        ("latency, median", f"{latency_text(m.latency_ms)} ms, {threads}"),
        ("latency, 95th percentile", f"{latency_text(m.latency_p95_ms)} ms"),
    ]
    return [
        ("file", str(m.file)),
        *(quality if m.quality is not None else []),
        ("bytes", count_text(m.bytes)),
        ("bytes after gzip", count_text(m.gzip_bytes)),
        ("parameters", count_text(m.parameters)),
        ("zero weights", percent_text(m.zero_fraction)),
        ("distinct weights", count_text(m.distinct_weights)),
        *([("multiply-accumulates", count_text(m.macs))] if m.macs is not None else []),
        *([("memory of activations", f"{count_text(m.arena_bytes)} bytes")] if m.arena_bytes is not None else []),
        *(latency if m.latency_ms is not None else []),
    ]
