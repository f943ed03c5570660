"""Scales of weights that archivers can pack: 10 significant bits of 24."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfbig.compression.native.integers import shortened
from tfbig.exporters.packing import kind_of
from tfbig.exporters.weight_ranges import LAYOUTS, constant, is_looked_up

_WEIGHTS = (schema.TensorType.INT8, schema.TensorType.INT4)
_COPY = "_duplicated_"  # behind the name of a constant that the quantizer needs with several scales
_BIAS_RANGE = np.iinfo(np.int32)


def biases_of(model: Any) -> dict[str, np.ndarray]:
    """The biases of a float file, by tensor name."""
    tensors = model.subgraphs[0].tensors
    found = {
        tensors[i].name.decode(): constant(model, tensors[i]) for op in _linear(model) for i in _ends(model, op)[2:]
    }
    return {name: values for name, values in found.items() if values is not None}


def shorten_scales(model: Any, biases: Mapping[str, np.ndarray], factors: Mapping[str, float]) -> None:
    """Shortens the scale of each channel of the weights, in place; the integers stay, those of biases follow.

    Args:
        model: an integer file; what computes with activations of 16 bits in it, which show a thousandth, stays.
        biases: of the float file it was made from, by tensor name.
        factors: by tensor name, what the converter has multiplied all weights of a tensor with. The scales are those of
            the Keras model, which has not: short before the factor.
    """
    tensors, done = model.subgraphs[0].tensors, set[int]()
    for op in _linear(model):
        source, weights, *bias = _ends(model, op)
        if tensors[weights].type not in _WEIGHTS or tensors[source].type != schema.TensorType.INT8:
            continue
        if is_looked_up(model, weights):  # What is taken from it has the same scale.
            continue
        if weights not in done:
            scales = np.asarray(tensors[weights].quantization.scale, np.float32)
            factor = np.float32(factors.get(_original(tensors[weights]), 1.0))
            tensors[weights].quantization.scale = shortened(scales / factor).numpy() * factor
            done.add(weights)
        for index in bias:
            _rescale(model, tensors[index], tensors[source], tensors[weights], biases)


def _rescale(model: Any, bias: Any, source: Any, weights: Any, biases: Mapping[str, np.ndarray]) -> None:
    if bias.type != schema.TensorType.INT32:
        return
    scale, unit = (np.asarray(x, np.float32) for x in (bias.quantization.scale, weights.quantization.scale))
    unit = np.float32(source.quantization.scale[0]) * unit
    values = biases.get(_original(bias))
    if values is None:
        values = np.frombuffer(bytes(model.buffers[bias.buffer].data), np.int32) * scale
    levels = np.round(np.divide(values, unit, out=np.zeros_like(values), where=unit > 0)).astype("float64")
    levels = np.clip(levels, _BIAS_RANGE.min, _BIAS_RANGE.max).astype(np.int32)
    bias.quantization.scale = np.broadcast_to(unit, scale.shape).copy()
    model.buffers[bias.buffer].data = np.frombuffer(levels.tobytes(), np.uint8)


def _original(tensor: Any) -> str:
    return str(tensor.name.decode()).split(_COPY)[0]


def _linear(model: Any) -> list[Any]:
    return [op for op in model.subgraphs[0].operators if kind_of(model, op) in LAYOUTS]


def _ends(model: Any, op: Any) -> list[int]:
    """Input, weights and, if there is one, bias."""
    layout = LAYOUTS[kind_of(model, op)]
    return [op.inputs[i] for i in layout[:3] if i < len(op.inputs) and op.inputs[i] >= 0]
