"""What can be measured: a LiteRT file, a Keras file, a SavedModel folder, or a Keras model in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from tfbig.errors import InvalidArgument, InvalidData, InvalidFile
from tfbig.isolation import run_isolated
from tfbig.measurement.litert import in_child, run_litert
from tfbig.measurement.samples import leaves
from tfbig.measurement.weights import WeightSummary, summarize_arrays

_KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")


def subject_of(model_or_path: Any) -> Subject:
    """Finds out what it was given.

    Raises:
        InvalidFile: no such file, or a kind that cannot be measured.
        InvalidArgument: neither a path nor a Keras model.
    """
    if not isinstance(model_or_path, str | os.PathLike):
        if not (callable(model_or_path) and hasattr(model_or_path, "weights")):
            raise InvalidArgument(
                f"`model_or_path` must be a path or a Keras model, received {type(model_or_path).__name__}."
            )
        return KerasModel(model_or_path)
    path = Path(model_or_path)
    if path.suffix == ".tflite":
        return LiteRT(path)
    if path.suffix in _KERAS_SUFFIXES:
        from tfbig.models.load import load

        return KerasModel(load(path), path)
    if (path / "saved_model.pb").is_file():
        return SavedModel(path)
    problem = "is not there" if not path.exists() else "is none of them"
    raise InvalidFile(
        f"Expected a .tflite, .keras or .h5 file or a SavedModel folder; `{path}` {problem}. Check the path."
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


class KerasModel(Subject):
    """A Keras 3 or tf_keras model, in this process; it is called, never compiled or changed."""

    def __init__(self, model: Any, file: Path | None = None):
        import tensorflow as tf

        self.file, self.model = file, model
        self._call = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def predict(self, x: Any) -> list[np.ndarray]:
        self._check_fit(x)
        return leaves(_as_numpy(self._call(x)))

    def output_names(self) -> list[str]:
        structure = getattr(self.model, "output", None)
        return sorted(structure) if isinstance(structure, dict) else list(getattr(self.model, "output_names", ()))

    def weights(self) -> WeightSummary:
        arrays = (np.asarray(weight) for weight in self.model.weights)
        return summarize_arrays(array for array in arrays if array.dtype.kind not in "iubSUO")

    def _check_fit(self, x: Any) -> None:
        """Raises `InvalidData` where the model says what it takes; a subclassed one says it when called."""
        inputs = getattr(self.model, "inputs", None) or ()
        if isinstance(x, dict) or len(inputs) != len(leaves(x)):
            return
        for tensor, array in zip(inputs, leaves(x), strict=True):
            shape = tuple(tensor.shape)
            pairs = zip(shape, array.shape, strict=False)
            if len(shape) != array.ndim or any(want not in (None, size) for want, size in pairs):
                raise InvalidData(
                    f"The data does not fit the model: its input '{tensor.name}' takes samples of shape "
                    f"{shape[1:]}, received {array.shape[1:]}. Reshape the data, or measure the model with "
                    "its own data."
                )


def _as_numpy(structure: Any) -> Any:
    if isinstance(structure, dict):
        return {key: _as_numpy(value) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return [_as_numpy(part) for part in structure]
    return np.asarray(structure)
