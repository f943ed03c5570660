"""Arrays of Keras 1 in the layout of Keras 2 and 3."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import keras
import numpy as np

from tfbig.models.legacy.weights import Convert

# Keras 1 kept the gates of a recurrent layer apart; here are their places in today's order.
_GATES = {"LSTM": (0, 2, 1, 3), "GRU": (0, 1, 2)}


def converter(group: h5py.Group) -> Convert:
    """Returns the conversion for the arrays in `group`, which says which backend they were trained with."""
    backend = group.attrs.get("backend", b"")
    flipped = (backend.decode() if isinstance(backend, bytes) else backend) == "theano"

    def convert(layer: keras.Layer, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        return _converted(layer, list(arrays), flipped)

    return convert


def _converted(layer: keras.Layer, arrays: list[np.ndarray], flipped: bool) -> list[np.ndarray]:
    if isinstance(layer, keras.layers.Bidirectional):
        half = len(arrays) // 2
        forward = _converted(layer.forward_layer, arrays[:half], flipped)
        return forward + _converted(layer.backward_layer, arrays[half:], flipped)
    if isinstance(layer, keras.layers.TimeDistributed):
        return _converted(layer.layer, arrays, flipped)
    gates = _GATES.get(type(layer).__name__)
    if gates and len(arrays) == 3 * len(gates):
        return [np.concatenate([arrays[3 * gate + part] for gate in gates], axis=-1) for part in range(3)]
    if isinstance(layer, keras.layers.Conv1D | keras.layers.Conv2D | keras.layers.Conv3D) and arrays:
        arrays[0] = _kernel(arrays[0], layer, flipped)
    return arrays


def _kernel(kernel: np.ndarray, layer: keras.Layer, flipped: bool) -> np.ndarray:
    expected = tuple(layer.kernel.shape)
    if isinstance(layer, keras.layers.Conv1D) and kernel.ndim == 4:
        kernel = kernel[:, 0] if kernel.shape[1] == 1 else kernel[..., 0].transpose(2, 1, 0)
    elif layer.data_format == "channels_first" or kernel.shape != expected:
        kernel = np.moveaxis(kernel, (0, 1), (-1, -2))
    if flipped:  # Theano convolves where TensorFlow correlates.
        kernel = np.flip(kernel, axis=tuple(range(kernel.ndim - 2)))
    return kernel
