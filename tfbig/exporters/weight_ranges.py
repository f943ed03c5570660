"""Ranges of weights that are not simply their largest value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

Statistics = dict[str, np.ndarray]
Range = tuple[float, float]

_BIAS_LIMIT = 2.0**30  # of the 2 ** 31 that a bias of 32 bits can hold
# Positions of input, weights and bias among an op's inputs, and the axis of the output channels in its weights.
_LAYOUTS = {
    "CONV_2D": (0, 1, 2, 0),
    "DEPTHWISE_CONV_2D": (0, 1, 2, 3),
    "FULLY_CONNECTED": (0, 1, 2, 0),
    "TRANSPOSE_CONV": (2, 1, 3, 0),
}


def widened(
    model: Any,
    ranges: Mapping[str, Range],
    one_scale: Sequence[tuple[np.ndarray, np.ndarray]],
    weight_bits: int,
    activation_bits: int,
) -> dict[str, Statistics]:
    """Ranges, by tensor name, of weights that are wider than their largest value.

    Channels that share a scale (before BatchNormalization was folded into them) have the range of the widest. And where
    all weights of a channel are (almost) zero, as pruning leaves them, its bias would be cut off: biases are stored in
    32 bits, in units of the input's scale times the channel's. A wider range costs such weights nothing that counts.

    Args:
        one_scale: for weights with one scale, the largest value of each channel, and that of its range.
    """
    graph = model.subgraphs[0]
    found: dict[str, Statistics] = {}
    for op in graph.operators:
        layout = _LAYOUTS.get(_kind_of(model, op))
        if layout is None:
            continue
        weights = graph.tensors[op.inputs[layout[1]]]
        kernel = _constant(model, weights)
        if kernel is None:
            continue
        bound = _bound(kernel, layout[3])
        wanted = _shared(bound, one_scale)
        if activation_bits == 8:  # Biases have 64 bits at 16.
            bits = weight_bits if _kind_of(model, op) in ("CONV_2D", "FULLY_CONNECTED") else 8
            wanted = np.maximum(wanted, _needed_by_bias(model, op, layout, ranges, 2 ** (bits - 1) - 1, bound.shape))
        if np.any(wanted > bound):
            widest = np.maximum(bound, wanted).astype("float32")
            if _is_looked_up(model, op.inputs[layout[1]]):  # which takes one scale for all rows
                widest = np.max(widest, keepdims=True)
            found[weights.name.decode()] = {"min": -widest, "max": widest}
    return found


def _is_looked_up(model: Any, weights: int) -> bool:
    """Whether a matrix is also a table that rows are taken from, as an embedding is that the output layer shares."""
    return any(weights in op.inputs and _kind_of(model, op) not in _LAYOUTS for op in model.subgraphs[0].operators)


def _bound(kernel: np.ndarray, axis: int) -> np.ndarray:
    """The largest weight of each channel, with the axes of the kernel."""
    return np.max(np.abs(kernel), axis=tuple(a for a in range(kernel.ndim) if a != axis), keepdims=True)


def _shared(bound: np.ndarray, one_scale: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The range that the tensor's channels share, if they do; it is known by the largest weight of each channel."""
    for by_channel, wanted in one_scale:
        if by_channel.size == bound.size and np.allclose(by_channel, bound.ravel(), rtol=1e-4, atol=1e-9):
            return wanted.reshape(bound.shape)
    return bound


def _needed_by_bias(
    model: Any, op: Any, layout: tuple[int, ...], ranges: Mapping[str, Range], levels: int, shape: tuple[int, ...]
) -> np.ndarray:
    """The range of each channel with which its bias fits into 32 bits."""
    if len(op.inputs) <= layout[2] or op.inputs[layout[2]] < 0:
        return np.zeros(shape)
    source, bias = (model.subgraphs[0].tensors[op.inputs[i]] for i in (layout[0], layout[2]))
    offsets, known = _constant(model, bias), ranges.get(source.name.decode())
    if offsets is None or known is None:
        return np.zeros(shape)
    input_scale = max((known[1] - known[0]) / 255, 1e-12)
    return (np.abs(offsets) * levels / (input_scale * _BIAS_LIMIT)).reshape(shape)


def _constant(model: Any, tensor: Any) -> np.ndarray | None:
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or tensor.type != schema.TensorType.FLOAT32:
        return None
    return np.frombuffer(bytes(data), "float32").reshape(tensor.shape)


def _kind_of(model: Any, op: Any) -> str:
    code = flatbuffer_utils.get_builtin_code_from_operator_code(model.operatorCodes[op.opcodeIndex])
    return _NAMES[code]


_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
