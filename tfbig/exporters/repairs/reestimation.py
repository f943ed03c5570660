"""Rounding changes the mean and the spread of what a layer gives: both are estimated anew and put right.

What BatchNormalization holds is the mean and the variance of a layer's outputs in the float model. It is folded into
the weights of a LiteRT file; so estimating it anew for the rounded model means to shift and scale each output channel
until its mean and variance before the activation are what they were:

    w' = w_rounded * sd(y) / sd(y_rounded),    b' = mean(y) - mean(w' * x_rounded)

Scaling a channel scales the step of its weights and leaves the integers as they are. The inputs `x_rounded` are those
that the rounded layers before make, so errors do not add up from layer to layer.

Reference: Finkelstein et al. 2019, "Fighting Quantization Bias With Bias", https://arxiv.org/abs/1906.03193;
Sun et al. 2019, "Hybrid 8-bit Floating Point (HFP8) Training and Inference for Deep Neural Networks", NeurIPS 32, where
the statistics of BatchNormalization are tuned anew after rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfbig.exporters.layer_inputs import as_rows, from_rows, patches_of
from tfbig.exporters.litert_layers import FloatFile, Layer, Samples

ORDER = 3
_RUNS = 4096  # of the file, over all layers: deep ones see fewer samples
_FEWEST = 16
_LIMIT = 2.0  # A channel is scaled by at most this much.


def repair(file: FloatFile, samples: Samples, bits: int) -> None:
    """Rounds all weights; then, layer by layer, gives each channel the mean and spread that it had."""
    for layer in file.layers:
        layer.chosen_weights = layer.rounded(bits)
    layers = [layer for layer in file.layers if layer.bias is not None]
    samples = samples[: max(_FEWEST, _RUNS // max(1, len(layers)))]
    wanted = _statistics(file, layers, samples, exact=True)
    for layer in (layer for layer in layers if layer in wanted):
        _restore(layer, wanted[layer], _statistics(file, [layer], samples, exact=False)[layer])


def _restore(layer: Layer, wanted: np.ndarray, found: np.ndarray) -> None:
    """Shifts and scales the channels of a layer that makes the statistics `found`, so that it makes those wanted."""
    spread = np.maximum(found[1], 1e-9)
    factor = np.where(found[1] > 1e-9, wanted[1] / spread, 1.0).clip(1 / _LIMIT, _LIMIT)
    weights, _ = layer.constants(exact=False)
    _, bias = layer.constants(exact=True)
    layer.chosen_weights = from_rows(layer, as_rows(layer, weights) * factor[:, None])
    layer.chosen_bias = bias + wanted[0] - factor * found[0]


def _statistics(file: FloatFile, layers: Sequence[Layer], samples: Samples, *, exact: bool) -> dict[Layer, np.ndarray]:
    """Mean and standard deviation `(2, channels)` of what the weights make of each layer's inputs, without the bias."""
    sums: dict[Layer, np.ndarray] = {}
    counts: dict[Layer, int] = dict.fromkeys(layers, 0)
    rows = {layer: as_rows(layer, layer.constants(exact=exact)[0]).astype("float32") for layer in layers}
    for layer, patches in patches_of(file, layers, samples, exact=exact):
        made = _products(patches, rows[layer]).astype("float64")
        sums[layer] = sums.get(layer, 0.0) + np.stack([made.sum(0), np.square(made).sum(0)])
        counts[layer] += len(made)
    means = {layer: total / counts[layer] for layer, total in sums.items()}
    return {x: np.stack([mean, np.sqrt(np.maximum(square - mean**2, 0.0))]) for x, (mean, square) in means.items()}


def _products(patches: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.einsum("pkc,ck->pc", patches, rows) if patches.ndim == 3 else patches @ rows.T
