"""Weights are rounded up or down as the layer's outputs want it, not each to its nearest integer.

The error of a layer's outputs is a quadratic form in the rounding errors of its weights, whose matrix is the second
moment of its inputs. Going over the weights in turn, each is rounded the other way where that makes the form smaller.

Reference: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization",
https://arxiv.org/abs/2004.10568, equation 13; solved by coordinate descent instead of a relaxation.
"""

from __future__ import annotations

import numpy as np

from tfbig.exporters.litert_layers import FloatFile, Layer, Samples

_PATCHES = 4096  # of a layer's inputs, over all samples
_LARGEST = 2400  # weights of one output: the matrix has the square of it
_SWEEPS = 4
_SAME = 0  # the schema's padding


def repair(file: FloatFile, samples: Samples, bits: int) -> None:
    """Puts the weights of every layer onto their grid, so that rounding them later changes nothing."""
    layers = [layer for layer in file.layers if _inputs_of_one_output(layer) <= _LARGEST]
    each = max(1, _PATCHES // max(1, len(samples)))
    random = np.random.default_rng(0)
    patches: dict[int, list[np.ndarray]] = {id(layer): [] for layer in layers}
    for values in file.values(samples):
        for layer in layers:
            if layer.kind == "CONV_2D" and values[layer.source].shape[-1] != layer.weights.shape[-1]:
                continue  # Groups of channels have weights of their own.
            found = _patches(layer, values[layer.source])
            chosen = random.permutation(len(found))[:each]
            patches[id(layer)].append(found[chosen])
    for layer in (layer for layer in layers if patches[id(layer)]):
        _round(layer, np.concatenate(patches[id(layer)]).astype("float64"), bits)


def _inputs_of_one_output(layer: Layer) -> int:
    return layer.weights[0].size if layer.kind != "DEPTHWISE_CONV_2D" else int(np.prod(layer.weights.shape[1:3]))


def _patches(layer: Layer, value: np.ndarray) -> np.ndarray:
    """What the weights of one output meet: `(patches, inputs)`, for depthwise layers `(patches, inputs, channels)`."""
    if layer.kind == "FULLY_CONNECTED":
        return value.reshape(-1, layer.weights.shape[-1])
    height, width = layer.weights.shape[1:3]
    rows, columns = layer.options.dilationHFactor, layer.options.dilationWFactor
    tall, wide = (height - 1) * rows + 1, (width - 1) * columns + 1
    if layer.options.padding == _SAME:
        value = np.pad(value, ((0, 0), _halves(tall - 1), _halves(wide - 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(value[0], (tall, wide), axis=(0, 1))[..., ::rows, ::columns]
    flat = windows.reshape(-1, windows.shape[2], height * width).swapaxes(1, 2)
    return flat if layer.kind == "DEPTHWISE_CONV_2D" else flat.reshape(len(flat), -1)


def _halves(size: int) -> tuple[int, int]:
    return size // 2, size - size // 2


def _round(layer: Layer, inputs: np.ndarray, bits: int) -> None:
    depthwise = layer.kind == "DEPTHWISE_CONV_2D"
    moved = np.moveaxis(layer.weights, layer.out_axis, 0)
    rows = moved.reshape(len(moved), -1)
    scale = layer.scale(bits).reshape(-1, 1)
    if depthwise:
        moments = np.einsum("pkc,plc->ckl", inputs, inputs) / len(inputs)
    else:
        moments = (inputs.T @ inputs / len(inputs))[None]
    levels = _descend(rows / scale, moments, 2 ** (layer.weight_bits(bits) - 1) - 1)
    layer.weights = np.moveaxis((levels * scale).reshape(moved.shape), 0, layer.out_axis)


def _descend(exact: np.ndarray, moments: np.ndarray, largest: int) -> np.ndarray:
    """The integers beside `exact`, `(outputs, inputs)`, of a small error under `moments`, `(outputs or 1, in, in)`."""
    levels = np.round(exact)
    gradient = (
        np.matmul((levels - exact)[:, None], moments)[:, 0] if len(moments) > 1 else (levels - exact) @ moments[0]
    )
    for _ in range(_SWEEPS):
        changed = False
        for i in range(exact.shape[1]):
            other = np.floor(exact[:, i]) + np.ceil(exact[:, i]) - levels[:, i]
            step = other - levels[:, i]
            gain = 2 * step * gradient[:, i] + step**2 * moments[:, i, i]
            take = (gain < -1e-12) & (np.abs(other) <= largest)
            step = np.where(take, step, 0.0)
            levels[:, i] += step
            gradient += step[:, None] * moments[:, i]
            changed |= bool(take.any())
        if not changed:
            break
    return levels
