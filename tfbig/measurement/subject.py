"""What can be measured: a file of one of the kinds in `subjects`, or a Keras model in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from tfbig.errors import InvalidArgument, InvalidFile
from tfbig.measurement.cost import Cost
from tfbig.measurement.litert import Latency
from tfbig.measurement.weights import WeightSummary
from tfbig.registry import Registry

registry = Registry("tfbig.measurement.subjects", "kind of file")


def subject_of(model_or_path: Any) -> Subject:
    """Finds out what it was given.

    Raises:
        InvalidFile: no such file, or a kind that cannot be measured.
        InvalidArgument: neither a path nor a Keras model.
    """
    if isinstance(model_or_path, str | os.PathLike):
        path = Path(model_or_path)
        kind = next((registry[name] for name in registry.names() if path.suffix in registry[name].suffixes), None)
        # A SavedModel may have any name.
        return (kind if kind is not None and not path.is_dir() else registry["saved_model"]).open_file(path)
    if not (callable(model_or_path) and hasattr(model_or_path, "weights")):
        raise InvalidArgument(
            f"`model_or_path` must be a path or a Keras model, received {type(model_or_path).__name__}."
        )
    return registry["keras_model"].KerasModel(model_or_path)


def unknown_file(path: Path) -> InvalidFile:
    """The error for a file of no known kind, or that is not there."""
    suffixes = sorted(suffix for name in registry.names() for suffix in registry[name].suffixes if suffix)
    problem = "is not there" if not path.exists() else "is none of them"
    return InvalidFile(
        f"Expected a {', '.join(suffixes)} file or a SavedModel folder; `{path}` {problem}. Check the path."
    )


class Subject:
    """One thing to measure; `file` is None for a model in memory."""

    file: Path | None = None

    def predict(self, x: Any) -> list[np.ndarray]:
        """The outputs for a batch, one array each."""
        raise NotImplementedError

    def output_names(self) -> list[str]:
        """The names of the outputs, in the order of `predict`."""
        raise NotImplementedError

    def weights(self) -> WeightSummary:
        """Counts over the weights."""
        raise NotImplementedError

    def latency(self, inputs: Any, threads: int, runs: int, xnnpack: bool) -> Latency | None:
        """The time of one invocation; None for what does not run on a device."""
        return None

    def cost(self) -> Cost | None:
        """What one invocation takes; None where it is not known."""
        return None
