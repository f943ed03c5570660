"""Channels of very different size share one scale between two layers: they are made alike before it is chosen.

What a channel is divided by in the first layer it is multiplied with in the second; the network stays the same. Weights
have a scale for each channel here, so the channel's activation takes the place of the first layer's weights.

Reference: Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction",
https://arxiv.org/abs/1906.04721, equation 11; Xiao et al. 2022, "SmoothQuant", https://arxiv.org/abs/2211.10438,
equation 4 with alpha 0.5.
"""

from __future__ import annotations

import numpy as np

from tfbig.exporters.litert_layers import FloatFile, Layer, Samples

_LIMIT = 100.0  # A channel is scaled by at most this much, for what the samples did not show.
_CEILING = 6.0  # of relu6


def repair(file: FloatFile, samples: Samples, bits: int) -> None:
    """Scales the channels between all pairs of layers with nothing but a ReLU between them."""
    pairs = [pair for pair in file.pairs() if _fit(*pair)]
    names = {first.result for first, _ in pairs}
    largest: dict[str, np.ndarray] = {}
    for values in file.values(samples):
        for name in names:
            seen = np.max(np.abs(values[name]), axis=tuple(range(values[name].ndim - 1)))
            largest[name] = np.maximum(largest.get(name, 0.0), seen)
    for first, second in pairs:
        scale = _scale(largest[first.result], second, first.activation == "relu6")
        _divide(first, scale)
        _multiply(second, scale)


def _fit(first: Layer, second: Layer) -> bool:
    channels = first.weights.shape[first.out_axis]
    return second.weights.shape[-1] == channels and (
        second.kind != "DEPTHWISE_CONV_2D" or second.options.depthMultiplier == 1
    )


def _scale(activations: np.ndarray, second: Layer, has_ceiling: bool) -> np.ndarray:
    weights = np.max(np.abs(second.weights), axis=tuple(range(second.weights.ndim - 1)))
    alive = (activations > 1e-6) & (weights > 1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.where(alive, np.sqrt(activations / weights), 1.0)
    if not np.any(alive):
        return np.ones_like(scale)
    scale = np.where(alive, scale / np.exp(np.mean(np.log(scale[alive]))), 1.0)
    scale = np.clip(scale, 1 / _LIMIT, _LIMIT)
    if has_ceiling:
        # Only channels that stay below 6 before and after may be scaled: what relu6 cuts off would change.
        below = activations < 0.9 * _CEILING
        scale = np.where(below, np.maximum(scale, activations / (0.9 * _CEILING)), 1.0)
    return scale


def _divide(layer: Layer, scale: np.ndarray) -> None:
    shape = [1] * layer.weights.ndim
    shape[layer.out_axis] = -1
    layer.weights = layer.weights / scale.reshape(shape)
    if layer.bias is not None:
        layer.bias = layer.bias / scale


def _multiply(layer: Layer, scale: np.ndarray) -> None:
    layer.weights = layer.weights * scale
