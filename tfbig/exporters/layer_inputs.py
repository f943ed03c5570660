"""What the weights of a layer meet on data: patches of its input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from tfbig.exporters.litert_layers import FloatFile, Layer, Samples

_PATCHES = 4096  # of a layer's inputs, over all samples
_TOGETHER = 16  # samples: fewer and larger products
_SAME = 0  # the schema's padding


def patches_of(
    file: FloatFile, layers: Sequence[Layer], samples: Samples, *, exact: bool
) -> Iterator[tuple[Layer, np.ndarray]]:
    """Each layer with some of the patches that its weights meet, a few samples at a time, the same places every time.

    Patches are `(patches, inputs)`, for depthwise layers `(patches, inputs, channels)`. Layers whose channels are
    computed in groups are left out.

    Args:
        exact: run the network as it was, else with the weights and biases that the repairs have chosen.
    """
    each = max(1, _PATCHES // max(1, len(samples)))
    gathered: dict[Layer, list[np.ndarray]] = {layer: [] for layer in layers}
    for number, values in enumerate(file.values(samples, exact=exact), 1):
        for layer, parts in gathered.items():
            value = values[layer.source]
            if layer.kind == "FULLY_CONNECTED" or value.shape[-1] == layer.weights.shape[-1]:
                found = _patches(layer, value)
                places = np.random.default_rng(number).permutation(len(found))[:each]
                parts.append(found[places])
        if number % _TOGETHER == 0 or number == len(samples):
            yield from ((layer, np.concatenate(parts)) for layer, parts in gathered.items() if parts)
            gathered = {layer: [] for layer in layers}


def as_rows(layer: Layer, weights: np.ndarray) -> np.ndarray:
    """Weights as `(outputs, inputs)`."""
    return np.moveaxis(weights, layer.out_axis, 0).reshape(weights.shape[layer.out_axis], -1)


def from_rows(layer: Layer, rows: np.ndarray) -> np.ndarray:
    """The inverse of `as_rows`."""
    shape = np.moveaxis(layer.weights, layer.out_axis, 0).shape
    return np.moveaxis(rows.reshape(shape), 0, layer.out_axis)


def _patches(layer: Layer, value: np.ndarray) -> np.ndarray:
    if layer.kind == "FULLY_CONNECTED":
        return value.reshape(-1, layer.weights.shape[-1])
    options = layer.options
    height, width = layer.weights.shape[1:3]
    rows, columns = options.dilationHFactor, options.dilationWFactor
    tall, wide = (height - 1) * rows + 1, (width - 1) * columns + 1
    if options.padding == _SAME:
        around = [_padding(n, k, s) for n, k, s in zip(value.shape[1:3], (tall, wide), _strides(layer), strict=True)]
        value = np.pad(value, ((0, 0), *around, (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(value[0], (tall, wide), axis=(0, 1))
    windows = windows[:: options.strideH, :: options.strideW, :, ::rows, ::columns]
    flat = windows.reshape(-1, windows.shape[2], height * width).swapaxes(1, 2)
    return flat if layer.kind == "DEPTHWISE_CONV_2D" else flat.reshape(len(flat), -1)


def _strides(layer: Layer) -> tuple[int, int]:
    return layer.options.strideH, layer.options.strideW


def _padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Before and after, as TensorFlow pads."""
    total = max(((size + stride - 1) // stride - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
