"""A LiteRT file, in the interpreter's child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfbig.measurement.cost import Cost
from tfbig.measurement.litert import Latency, in_child, run_litert, time_litert
from tfbig.measurement.samples import leaves
from tfbig.measurement.subject import Subject
from tfbig.measurement.weights import WeightSummary

suffixes = (".tflite",)


def open_file(path: Path) -> Subject:
    """The file, checked to be whole."""
    return LiteRT(path)


class LiteRT(Subject):
    """A LiteRT file, in the interpreter's child process."""

    def __init__(self, path: Path):
        self.file: Path = path
        # Reading it first tells a bad file from bad data.
        self._weights: WeightSummary = in_child("weights:summarize_path", str(path))

    def predict(self, x: Any) -> list[np.ndarray]:
        return run_litert(self.file, x if isinstance(x, dict) else leaves(x))

    def output_names(self) -> list[str]:
        return in_child("interpreter:output_names", str(self.file))

    def weights(self) -> WeightSummary:
        return self._weights

    def cost(self) -> Cost:
        return in_child("cost:cost_of", str(self.file))

    def latency(self, inputs: Any, threads: int, runs: int, xnnpack: bool) -> Latency:
        given = inputs if inputs is None or isinstance(inputs, dict) else leaves(inputs)
        return time_litert(self.file, given, threads=threads, runs=runs, xnnpack=xnnpack)
