"""Weights are rounded up or down as the layer's outputs want it, not each to its nearest integer.

The error of a layer's outputs is a quadratic form in the rounding errors of its weights, whose matrix is the covariance
of its inputs, for the bias takes up the mean. Each output has the step with which that error is smallest: with few bits
a few large weights are better cut off. Going over the weights in turn, each is rounded the other way where that makes
the form smaller.

Reference: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization",
https://arxiv.org/abs/2004.10568, equation 13; solved by coordinate descent instead of a relaxation.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from tfbig.exporters.layer_inputs import as_rows, from_rows, patches_of
from tfbig.exporters.litert_layers import FloatFile, Layer, Samples

ORDER = 2
_LARGEST = 2400  # weights of one output: the matrix has the square of it
_SWEEPS = 4
_STEPS = np.linspace(1.0, 0.5, 11)  # shares of the step with which nothing is cut off
_DAMPING = 0.01  # of the mean variance: what the samples did not show may come


@dataclasses.dataclass
class _Sums:
    """Over the patches of one layer; a depthwise layer has one of each for every channel."""

    count: int = 0
    first: np.ndarray | float = 0.0  # (channels or 1, inputs)
    second: np.ndarray | float = 0.0  # (channels or 1, inputs, inputs)

    def add(self, patches: np.ndarray) -> None:
        by_channel = np.moveaxis(patches, -1, 0) if patches.ndim == 3 else patches[None]
        self.count += len(patches)
        self.first = self.first + by_channel.sum(1, dtype="float64")
        self.second = self.second + by_channel.swapaxes(1, 2) @ by_channel


def repair(file: FloatFile, samples: Samples, bits: int) -> None:
    """Puts the weights of every layer onto their grid, so that rounding them later changes nothing."""
    layers = [layer for layer in file.layers if _inputs_of_one_output(layer) <= _LARGEST]
    sums = {layer: _Sums() for layer in layers}
    for layer, patches in patches_of(file, layers, samples, exact=True):
        sums[layer].add(patches)
    for layer, found in sums.items():
        if found.count:
            _round(layer, np.asarray(found.first) / found.count, np.asarray(found.second) / found.count, bits)


def _inputs_of_one_output(layer: Layer) -> int:
    return layer.weights[0].size if layer.kind != "DEPTHWISE_CONV_2D" else int(np.prod(layer.weights.shape[1:3]))


def _round(layer: Layer, mean: np.ndarray, moments: np.ndarray, bits: int) -> None:
    rows, largest = as_rows(layer, layer.weights), layer.largest_level(bits)
    if layer.bias is not None:
        moments = moments - mean[:, :, None] * mean[:, None, :]
    size = np.arange(moments.shape[-1])
    moments[:, size, size] += _DAMPING * moments[:, size, size].mean(1, keepdims=True)
    steps = _best_steps(rows, layer.scale(bits).reshape(-1, 1), moments, largest)
    levels = _descend(rows / steps, moments, largest)
    layer.chosen_weights = from_rows(layer, levels * steps)
    if layer.bias is not None:
        layer.chosen_bias = layer.bias - np.sum((levels * steps - rows) * mean, axis=1)


def _best_steps(rows: np.ndarray, widest: np.ndarray, moments: np.ndarray, largest: int) -> np.ndarray:
    """The step of each output, `(outputs, 1)`, with which rounding to the nearest makes the least error."""
    errors = []
    for share in _STEPS:
        steps = widest * share
        wrong = np.clip(np.round(rows / steps), -largest, largest) * steps - rows
        errors.append(np.sum(_times(wrong, moments) * wrong, axis=1))
    return widest * _STEPS[np.argmin(errors, axis=0)][:, None]


def _times(rows: np.ndarray, moments: np.ndarray) -> np.ndarray:
    return np.matmul(rows[:, None], moments)[:, 0] if len(moments) > 1 else rows @ moments[0]


def _descend(exact: np.ndarray, moments: np.ndarray, largest: int) -> np.ndarray:
    """The integers beside `exact`, `(outputs, inputs)`, of a small error under `moments`, `(outputs or 1, in, in)`."""
    inside = np.clip(exact, -largest, largest)
    levels = np.round(inside)
    gradient = _times(levels - exact, moments)
    for _ in range(_SWEEPS):
        changed = False
        for i in range(exact.shape[1]):
            other = np.floor(inside[:, i]) + np.ceil(inside[:, i]) - levels[:, i]
            step = other - levels[:, i]
            gain = 2 * step * gradient[:, i] + step**2 * moments[:, i, i]
            step = np.where(gain < -1e-12 * moments[:, i, i], step, 0.0)
            levels[:, i] += step
            gradient += step[:, None] * moments[:, i]
            changed |= bool(step.any())
        if not changed:
            break
    return levels
