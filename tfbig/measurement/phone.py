"""The commands that time a LiteRT file on an Android phone, with LiteRT's own benchmark tool."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from tfbig.errors import InvalidArgument, check_count

_TOOL = (
    "https://storage.googleapis.com/tensorflow-nightly-public/prod/tensorflow/release/lite/tools/nightly/latest/"
    "android_aarch64_benchmark_model"
)
_FOLDER = "/data/local/tmp"


def benchmark_commands(path: str | os.PathLike, *, threads: int = 1, runs: int = 50) -> list[str]:
    """One command per line: fetch the tool, push it and the file, run it.

    Args:
        path: a `.tflite` file.
        threads: of the interpreter on the phone.
        runs: timed invocations.

    Raises:
        InvalidArgument: another kind of file, or a count below 1.
    """
    file = Path(path)
    if file.suffix != ".tflite":
        raise InvalidArgument(
            f"`path` must be a .tflite file, which phones run, received '{file.name}'. Export it first."
        )
    options = [
        f"--graph={_FOLDER}/{file.name}",
        f"--num_threads={check_count('threads', threads)}",
        f"--num_runs={check_count('runs', runs)}",
        "--warmup_runs=5",
        "--use_xnnpack=true",
    ]
    return [
        f"curl -o benchmark_model {_TOOL}",
        shlex.join(["adb", "push", "benchmark_model", str(file), f"{_FOLDER}/"]),
        shlex.join(["adb", "shell", "chmod", "+x", f"{_FOLDER}/benchmark_model"]),
        # adb hands its arguments to the phone's shell as one string: they are quoted for it.
        shlex.join(["adb", "shell", shlex.join([f"{_FOLDER}/benchmark_model", *options])]),
    ]
