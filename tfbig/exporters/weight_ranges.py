"""Ranges of weights: those of the Keras model, wider ones where a bias needs it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfbig.exporters.packing import kind_of

Statistics = dict[str, np.ndarray]
Range = tuple[float, float]
WeightRange = tuple[np.ndarray, np.ndarray]  # the largest weight of each channel, and that of its range

_TINY = 1e-12
_LOOKUPS = ("GATHER", "EMBEDDING_LOOKUP")
_BIAS_LIMIT = 2.0**30  # of the 2 ** 31 that a bias of 32 bits can hold
# Positions of input, weights and bias among an op's inputs, and the axis of the output channels in its weights.
LAYOUTS = {
    "CONV_2D": (0, 1, 2, 0),
    "DEPTHWISE_CONV_2D": (0, 1, 2, 3),
    "FULLY_CONNECTED": (0, 1, 2, 0),
    "TRANSPOSE_CONV": (2, 1, 3, 0),
}


def ranges_of_weights(
    model: Any,
    ranges: Mapping[str, Range],
    weight_ranges: Sequence[WeightRange],
    weight_bits: int,
    activation_bits: int,
) -> tuple[dict[str, Statistics], dict[str, float]]:
    """Ranges, by tensor name, of weights whose range is not just the largest value of each channel.

    Those of the Keras model count to the last bit, and there channels can share the scale of the widest (before
    BatchNormalization was folded into them). And where all weights of a channel are (almost) zero, as pruning leaves
    them, its bias would be cut off: biases are stored in 32 bits, in units of the input's scale times the channel's. A
    wider range costs such weights nothing that counts.

    Returns:
        The ranges, and the factors, by tensor name, that the converter has merged into all weights of a tensor.
    """
    graph = model.subgraphs[0]
    linear = [(op, LAYOUTS[kind_of(model, op)]) for op in graph.operators if kind_of(model, op) in LAYOUTS]
    bounds: dict[str, np.ndarray] = {}
    for op, layout in linear:
        weights = graph.tensors[op.inputs[layout[1]]]
        if (kernel := constant(model, weights)) is not None:
            bounds[weights.name.decode()] = _bound(kernel, layout[3])
    known, found = _matched(bounds, weight_ranges), dict[str, Statistics]()
    for op, layout in linear:
        name = graph.tensors[op.inputs[layout[1]]].name.decode()
        if name not in bounds:
            continue
        bound, (wanted, _) = bounds[name], known[name]
        if activation_bits == 8:  # Biases have 64 bits at 16.
            bits = weight_bits if kind_of(model, op) in ("CONV_2D", "FULLY_CONNECTED") else 8
            wanted = np.maximum(wanted, _needed_by_bias(model, op, layout, ranges, 2 ** (bits - 1) - 1, bound.shape))
        if np.any(wanted != bound):
            wanted = wanted.astype("float32")
            if is_looked_up(model, op.inputs[layout[1]]):  # which takes one scale for all rows
                wanted = np.max(wanted, keepdims=True)
            found[name] = {"min": -wanted, "max": wanted}
    return found, {name: factor for name, (_, factor) in known.items()}


def _matched(
    bounds: Mapping[str, np.ndarray], weight_ranges: Sequence[WeightRange]
) -> dict[str, tuple[np.ndarray, float]]:
    """For each tensor the range of each channel, and what the file's weights are multiplied with.

    Weights of the Keras model are known by the largest of each channel. The converter merges a factor of an activation
    into some, such as that of attention's query: they are looked for among those that no tensor has as they are. What
    the model has not keeps its largest weights for a range.
    """
    found: dict[str, tuple[np.ndarray, float]] = {}
    rest = _by_size(weight_ranges)
    for with_factor in (False, True):
        taken: dict[int, set[int]] = defaultdict(set)
        for name, bound in bounds.items():
            same = rest.get(bound.size, [])
            if name in found or not same or (with_factor and bound.size == 1):
                continue
            largest = np.stack([by_channel for by_channel, _ in same])
            widest = np.maximum(largest.max(axis=1), _TINY)
            factors = bound.max() / widest if with_factor else np.ones(len(same))
            close = np.isclose(largest * factors[:, None], bound.ravel(), rtol=1e-4, atol=1e-9).all(axis=1)
            if close.any():
                first = int(close.argmax())
                taken[bound.size].update(np.flatnonzero(close).tolist())
                found[name] = (same[first][1] * factors[first]).reshape(bound.shape), float(factors[first])
        rest = {size: [x for i, x in enumerate(same) if i not in taken[size]] for size, same in rest.items()}
    return {name: found.get(name, (bound, 1.0)) for name, bound in bounds.items()}


def _by_size(weight_ranges: Sequence[WeightRange]) -> dict[int, list[WeightRange]]:
    found: dict[int, list[WeightRange]] = defaultdict(list)
    for by_channel, range_ in weight_ranges:
        found[by_channel.size].append((by_channel, range_))
    return dict(found)


def _bound(kernel: np.ndarray, axis: int) -> np.ndarray:
    """The largest weight of each channel, with the axes of the kernel."""
    return np.max(np.abs(kernel), axis=tuple(a for a in range(kernel.ndim) if a != axis), keepdims=True)


def _needed_by_bias(
    model: Any, op: Any, layout: tuple[int, ...], ranges: Mapping[str, Range], levels: int, shape: tuple[int, ...]
) -> np.ndarray:
    """The range of each channel with which its bias fits into 32 bits."""
    if len(op.inputs) <= layout[2] or op.inputs[layout[2]] < 0:
        return np.zeros(shape)
    source, bias = (model.subgraphs[0].tensors[op.inputs[i]] for i in (layout[0], layout[2]))
    offsets, known = constant(model, bias), ranges.get(source.name.decode())
    if offsets is None or known is None:
        return np.zeros(shape)
    input_scale = max((known[1] - known[0]) / 255, 1e-12)
    return (np.abs(offsets) * levels / (input_scale * _BIAS_LIMIT)).reshape(shape)


def is_looked_up(model: Any, weights: int) -> bool:
    """Whether a matrix is also a table that rows are taken from, as an embedding is that the output layer shares."""
    return any(weights in op.inputs and kind_of(model, op) in _LOOKUPS for op in model.subgraphs[0].operators)


def constant(model: Any, tensor: Any) -> np.ndarray | None:
    """The numbers of a constant float tensor, None for any other."""
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or tensor.type != schema.TensorType.FLOAT32:
        return None
    return np.frombuffer(bytes(data), "float32").reshape(tensor.shape)
