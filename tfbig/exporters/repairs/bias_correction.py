"""Rounded weights shift the mean of what a layer gives; its bias takes the shift back.

Reference: Nagel et al. 2019, "Data-Free Quantization through Weight Equalization and Bias Correction",
https://arxiv.org/abs/1906.04721, section 4.2, with the mean of the inputs measured on data.
"""

from __future__ import annotations

import numpy as np

from tfbig.exporters.litert_layers import FloatFile, Layer, Samples

ORDER = 4


def repair(file: FloatFile, samples: Samples, bits: int) -> None:
    """Subtracts from each bias what the rounding error of the weights makes of the mean input.

    A bias that another repair has chosen already is left as it is: that repair knew the rounding error.
    """
    layers = [layer for layer in file.layers if layer.bias is not None and layer.chosen_bias is None]
    sums: dict[str, np.ndarray] = {}
    for values in file.values(samples):
        for name in {layer.source for layer in layers}:
            mean = values[name].mean(axis=tuple(range(values[name].ndim - 1)), dtype="float64")
            sums[name] = sums.get(name, 0.0) + mean
    for layer in layers:
        means = sums[layer.source] / len(samples)
        if means.shape[-1] == layer.weights.shape[-1] and layer.bias is not None:
            layer.chosen_bias = layer.bias - _shift(layer, means, bits)


def _shift(layer: Layer, means: np.ndarray, bits: int) -> np.ndarray:
    error = (layer.rounded(bits) - layer.weights) * means
    axes = tuple(axis for axis in range(error.ndim) if axis != layer.out_axis)
    return error.sum(axis=axes)
