"""A Keras file or model, in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tfbig.errors import InvalidData
from tfbig.exporters.inference_graph import output_names
from tfbig.measurement.samples import leaves
from tfbig.measurement.subject import Subject
from tfbig.measurement.weights import WeightSummary, summarize_arrays

suffixes = (".keras", ".h5", ".hdf5")


def open_file(path: Path) -> Subject:
    """The model of the file."""
    from tfbig.models.load import load

    return KerasModel(load(path), path)


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
        return output_names(self.model)

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
