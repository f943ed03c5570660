"""Channels of very different size share one scale between two layers: they are made alike before it is chosen.

What a channel is divided by in the first layer it is multiplied with in the second; the network stays the same. The
weights of the first layer have a scale for each channel and do not notice. So a factor is a choice between the
activation, whose largest channel sets the step of all, and the weights of the second layer, whose largest input does:

    s = activation ** alpha / weight ** (1 - alpha)

Of several alpha, and of leaving the channels as they are, the one with the least expected error of the second layer's
outputs is taken: the fewer bits the weights have, the more it favours them.

Reference: Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction",
https://arxiv.org/abs/1906.04721, equation 11; Xiao et al. 2022, "SmoothQuant", https://arxiv.org/abs/2211.10438,
equation 4, with alpha chosen for each pair of layers.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfbig.exporters.litert_layers import FloatFile, Layer, Samples

ORDER = 1
_ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
_LIMIT = 100.0  # A channel is scaled by at most this much, for what the samples did not show.
_CEILING = 6.0  # of relu6
_ACTIVATION_STEPS = 255


@dataclasses.dataclass(frozen=True)
class _Activation:
    """Of each channel between two layers, on the samples."""

    largest: np.ndarray
    power: np.ndarray  # mean square

    def joined(self, value: np.ndarray, share: float) -> _Activation:
        axes = tuple(range(value.ndim - 1))
        power = self.power + share * np.mean(np.square(value, dtype="float64"), axis=axes)
        return _Activation(np.maximum(self.largest, np.max(np.abs(value), axis=axes)), power)


def repair(file: FloatFile, samples: Samples, bits: int) -> None:
    """Scales the channels between all pairs of layers with nothing but a ReLU between them."""
    pairs = [pair for pair in file.pairs() if _fit(*pair)]
    seen = {first.result: _Activation(np.zeros(1), np.zeros(1)) for first, _ in pairs}
    for values in file.values(samples):
        seen = {name: activation.joined(values[name], 1 / len(samples)) for name, activation in seen.items()}
    scales = [_scale(seen[first.result], first, second, bits) for first, second in pairs]
    for (first, second), scale in zip(pairs, scales, strict=True):
        _divide(first, scale)
        second.weights = second.weights * scale


def _fit(first: Layer, second: Layer) -> bool:
    channels = first.weights.shape[first.out_axis]
    return second.weights.shape[-1] == channels and (
        second.kind != "DEPTHWISE_CONV_2D" or second.options.depthMultiplier == 1
    )


def _scale(activation: _Activation, first: Layer, second: Layer, bits: int) -> np.ndarray:
    weights = np.max(np.abs(second.weights), axis=tuple(range(second.weights.ndim - 1)))
    alive = (activation.largest > 1e-6) & (weights > 1e-12)
    candidates = [np.ones_like(weights)]
    for alpha in _ALPHAS if np.any(alive) else ():
        with np.errstate(divide="ignore", invalid="ignore"):
            wanted = activation.largest**alpha / weights ** (1 - alpha)
        wanted = np.where(alive, wanted / np.exp(np.mean(np.log(wanted[alive]))), 1.0)
        candidates.append(_allowed(wanted.clip(1 / _LIMIT, _LIMIT), activation.largest, first))
    return min(candidates, key=lambda scale: _expected_error(scale, activation, second, bits))


def _allowed(scale: np.ndarray, activation: np.ndarray, first: Layer) -> np.ndarray:
    """Only channels that stay below 6 before and after may be scaled where relu6 would cut them off elsewhere."""
    if first.activation != "relu6":
        return scale
    below = activation < 0.9 * _CEILING
    return np.where(below, np.maximum(scale, activation / (0.9 * _CEILING)), 1.0)


def _expected_error(scale: np.ndarray, activation: _Activation, second: Layer, bits: int) -> float:
    """Of the second layer's outputs: uniform rounding errors of the activation, and of its weights."""
    weights = np.moveaxis(second.weights * scale, second.out_axis, 0)
    step = np.max(activation.largest / scale) / _ACTIVATION_STEPS
    of_activation = np.sum(np.square(weights)) * step**2
    if second.kind == "DEPTHWISE_CONV_2D":
        return float(of_activation)  # Its weights have a scale for each channel, which follows.
    steps = np.max(np.abs(weights), axis=tuple(range(1, weights.ndim))) / second.largest_level(bits)
    places = np.prod(weights.shape[1:-1])
    return float(of_activation + places * np.sum(activation.power / scale**2) * np.sum(np.square(steps)))


def _divide(layer: Layer, scale: np.ndarray) -> None:
    shape = [1] * layer.weights.ndim
    shape[layer.out_axis] = -1
    layer.weights = layer.weights / scale.reshape(shape)
    if layer.bias is not None:
        layer.bias = layer.bias / scale
