"""An ONNX file, read and run in the interpreter's child process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfbig.exporters.extras import require
from tfbig.measurement.litert import in_child
from tfbig.measurement.samples import leaves
from tfbig.measurement.subject import Subject
from tfbig.measurement.weights import WeightSummary

suffixes = (".onnx",)


def open_file(path: Path) -> Subject:
    """The file, checked to be whole."""
    require("Measuring an ONNX file", "onnx", "onnx", "onnxruntime")
    return Onnx(path)


class Onnx(Subject):
    """A file that ONNX Runtime computes on the CPU."""

    def __init__(self, path: Path):
        self.file: Path = path
        # Reading it first tells a bad file from bad data.
        self._weights: WeightSummary = in_child("onnx_file:weights", str(path))

    def predict(self, x: Any) -> list[np.ndarray]:
        return in_child("onnx_file:predict", str(self.file), x if isinstance(x, dict) else leaves(x))

    def output_names(self) -> list[str]:
        return in_child("onnx_file:output_names", str(self.file))

    def weights(self) -> WeightSummary:
        return self._weights
