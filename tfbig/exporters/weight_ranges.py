"""Ranges of weights that are not simply their largest value."""

from __future__ import annotations

from collections.abc import Mapping
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


def widened_for_bias(
    model: Any, ranges: Mapping[str, Range], weight_bits: int, activation_bits: int
) -> dict[str, Statistics]:
    """Ranges for weights so small that their channel's bias would not fit into 32 bits, by tensor name.

    A bias is stored in units of the input's scale times the channel's: where all weights of a channel are (almost)
    zero, as pruning leaves them, its bias would be cut off. A wider range costs such weights nothing that counts.
    """
    if activation_bits == 16:
        return {}  # Biases have 64 bits there.
    graph = model.subgraphs[0]
    found: dict[str, Statistics] = {}
    for op in graph.operators:
        layout = _LAYOUTS.get(_kind_of(model, op))
        if layout is None or len(op.inputs) <= layout[2] or op.inputs[layout[2]] < 0:
            continue
        source, weights, bias = (graph.tensors[op.inputs[i]] for i in layout[:3])
        kernel, offsets = _constant(model, weights), _constant(model, bias)
        known = ranges.get(source.name.decode())
        if kernel is None or offsets is None or known is None:
            continue
        bits = weight_bits if _kind_of(model, op) in ("CONV_2D", "FULLY_CONNECTED") else 8
        bound, needed = _bounds(kernel, offsets, layout[3], (known[1] - known[0]) / 255, 2 ** (bits - 1) - 1)
        if np.any(needed > bound):
            widest = np.maximum(bound, needed).astype("float32")
            found[weights.name.decode()] = {"min": -widest, "max": widest}
    return found


def _bounds(
    kernel: np.ndarray, bias: np.ndarray, axis: int, input_scale: float, levels: int
) -> tuple[np.ndarray, np.ndarray]:
    """The largest weight of each channel, and the one that its bias asks for; both with the axes of the kernel."""
    others = tuple(a for a in range(kernel.ndim) if a != axis)
    bound = np.max(np.abs(kernel), axis=others, keepdims=True)
    needed = np.abs(bias) * levels / (max(input_scale, 1e-12) * _BIAS_LIMIT)
    return bound, needed.reshape(bound.shape)


def _constant(model: Any, tensor: Any) -> np.ndarray | None:
    data = model.buffers[tensor.buffer].data
    if data is None or len(data) == 0 or tensor.type != schema.TensorType.FLOAT32:
        return None
    return np.frombuffer(bytes(data), "float32").reshape(tensor.shape)


def _kind_of(model: Any, op: Any) -> str:
    code = flatbuffer_utils.get_builtin_code_from_operator_code(model.operatorCodes[op.opcodeIndex])
    return _NAMES[code]


_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
