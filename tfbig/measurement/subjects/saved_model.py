"""A SavedModel folder, in the child process that has TensorFlow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from tfbig.isolation import run_isolated
from tfbig.measurement.subject import Subject, unknown_file
from tfbig.measurement.weights import WeightSummary

suffixes = ("",)


def open_file(path: Path) -> Subject:
    """The folder, if it is a SavedModel."""
    if not (path / "saved_model.pb").is_file():
        raise unknown_file(path)
    return SavedModel(path)


class SavedModel(Subject):
    """A SavedModel folder, in the child process that has TensorFlow."""

    def __init__(self, path: Path):
        self.file: Path = path

    def predict(self, x: Any) -> list[np.ndarray]:
        return self._call("predict", x)

    def output_names(self) -> list[str]:
        return self._call("output_names")

    def weights(self) -> WeightSummary:
        return self._call("weights")

    def _call(self, function: str, *args: Any) -> Any:
        target = f"tfbig.measurement.saved_model:{function}"
        return run_isolated(target, os.path.abspath(str(self.file)), *args, worker="convert")
