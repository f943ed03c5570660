"""Channel rules for what works on each element alone, or on several tensors element by element."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfbig.compression.structure.atoms import Labels
from tfbig.compression.structure.flow import Channels, Flow, NotUnderstood, count_of, rule
from tfbig.compression.structure.graph import Call, kind

MIXING = ("softmax", "log_softmax", "sparsemax", "glu")
ELEMENTWISE = frozenset(
    getattr(keras.activations, name)
    for name in dir(keras.activations)
    if name not in (*MIXING, "get", "serialize", "deserialize") and callable(getattr(keras.activations, name))
)
POINTWISE_LAYERS = (
    *("ReLU", "LeakyReLU", "ELU", "Identity", "Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise"),
    *(
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "ActivityRegularization",
        "StochasticDepth",
    ),
)
POINTWISE_OPS = (
    *(
        "Absolute",
        "Abs",
        "Relu",
        "Relu6",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Silu",
        "LogSigmoid",
        "LeakyRelu",
    ),
    *(
        "HardSigmoid",
        "HardSilu",
        "Elu",
        "Selu",
        "Gelu",
        "Celu",
        "HardTanh",
        "Tanh",
        "Exp",
        "Expm1",
        "Negative",
    ),
    *("Square", "Sqrt", "Rsqrt", "Erf", "Sin", "Cos", "Clip", "Cast", "StopGradient", "Sign", "Log", "Log1p"),
    *("SoftShrink", "HardShrink", "TanhShrink", "Squareplus", "Reciprocal"),
)
BINARY_OPS = (
    *("Add", "Subtract", "Multiply", "Divide", "TrueDivide", "Maximum", "Minimum", "Power", "Where"),
    *("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual", "LogicalAnd", "LogicalOr"),
)
ZERO_OF_ZEROS = ("Add", "Subtract", "Maximum", "Minimum", "Greater", "Less", "NotEqual")


def activate(flow: Flow, activation: Any, channels: Channels) -> Channels:
    """The channels after an `activation` option; one that mixes its last axis keeps that axis whole."""
    if activation is None:
        return channels
    if activation in ELEMENTWISE:
        return Channels(channels.axes, channels.zero and keeps_zero(activation))
    if isinstance(activation, keras.layers.Layer) and kind(activation) in POINTWISE_LAYERS:
        return Channels(channels.axes, channels.zero and _layer_keeps_zero(activation))
    if getattr(activation, "__name__", "") in MIXING[:3] and activation.__module__.startswith("keras."):
        return flow.whole(channels, -1)
    raise NotUnderstood


@functools.lru_cache(maxsize=256)
def keeps_zero(function: Callable) -> bool:
    """Whether an elementwise function maps zero to zero."""
    return float(np.asarray(function(keras.ops.zeros((1,))))[0]) == 0.0


def _layer_keeps_zero(layer: keras.Layer) -> bool:
    """Only a leaky ReLU with a threshold moves zero, of all `POINTWISE_LAYERS`."""
    return not (getattr(layer, "threshold", 0.0) and layer.negative_slope)


def broadcast(flow: Flow, operands: Sequence[tuple[tuple[int, ...], tuple[Labels, ...]]]) -> tuple[Labels, ...]:
    """Ties the axes together that NumPy's broadcasting lays over each other."""
    rank = max(len(shape) for shape, _ in operands)
    merged: list[Labels] = [None] * rank
    for axis in range(-rank, 0):
        facing = [axes[axis] for shape, axes in operands if len(shape) >= -axis and shape[axis] != 1]
        if any(labels is not None for labels in facing):
            merged[axis] = functools.reduce(flow.atoms.merge, facing)
    return tuple(merged)


def operand(flow: Flow, value: Any) -> tuple[tuple[int, ...], tuple[Labels, ...]]:
    """Shape and labels of a tensor, or of a constant, which is never cut."""
    if isinstance(value, keras.KerasTensor):
        return tuple(value.shape), flow.of(value).axes
    return np.shape(value), (None,) * np.ndim(value)


@rule(*POINTWISE_LAYERS)
def pointwise_layer(call: Call, flow: Flow) -> Channels:
    """A layer without weights that maps each element by itself."""
    x = flow.of(call.inputs[0])
    return Channels(x.axes, x.zero and _layer_keeps_zero(call.operation))


@rule("Activation")
def activation(call: Call, flow: Flow) -> Channels:
    return activate(flow, call.operation.activation, flow.of(call.inputs[0]))


@rule(*(f"ops.{name}" for name in POINTWISE_OPS))
def pointwise_operation(call: Call, flow: Flow) -> Channels:
    x = flow.of(call.inputs[0])
    rest = [value for value in keras.tree.flatten((call.args[1:], call.kwargs)) if value is not None]
    if len(call.inputs) > 1 or any(np.ndim(value) for value in rest):
        raise NotUnderstood
    zero = call.operation.call(keras.ops.zeros((1,)), *call.args[1:], **call.kwargs)
    return Channels(x.axes, x.zero and float(np.asarray(zero)[0]) == 0.0)


@rule("PReLU")
def prelu(call: Call, flow: Flow) -> Channels:
    layer, x = call.operation, flow.of(call.inputs[0])
    for axis, length in enumerate(layer.alpha.shape):
        shared = length == 1 and call.inputs[0].shape[axis + 1] != 1
        flow.bind(layer.alpha, axis, None if shared else x[axis + 1])
    return x


@rule("Rescaling")
def rescaling(call: Call, flow: Flow) -> Channels:
    layer, x = call.operation, flow.of(call.inputs[0])
    if np.ndim(layer.scale) or np.ndim(layer.offset):
        x = flow.whole(x, -1)
    return Channels(x.axes, x.zero and np.ndim(layer.offset) == 0 and layer.offset == 0)


@rule("LayerScale")
def layer_scale(call: Call, flow: Flow) -> Channels:
    """ConvNeXt's learned scale per channel."""
    layer, x = call.operation, flow.of(call.inputs[0])
    flow.bind(layer.gamma, 0, x[-1])
    flow.edit(layer, "projection_dim", [x[-1]], count_of(x[-1]))
    return x


@rule("Add", "Average", "Subtract", "Maximum", "Minimum", "CustomScaleLayer")
def merge_layer(call: Call, flow: Flow) -> Channels:
    return _merge(call, flow, list(call.inputs), all)


@rule("Multiply")
def multiply_layer(call: Call, flow: Flow) -> Channels:
    return _merge(call, flow, list(call.inputs), any)


@rule(*(f"ops.{name}" for name in BINARY_OPS))
def binary_operation(call: Call, flow: Flow) -> Channels:
    operands = [*call.args, *call.kwargs.values()]
    name = type(call.operation).__name__
    axes = broadcast(flow, [operand(flow, x) for x in operands])
    tensors = [x for x in operands if isinstance(x, keras.KerasTensor)]
    zeros = [_zero_in(flow, x) for x in tensors]
    if name == "Multiply":
        return Channels(axes, any(zeros))
    constants = [x for x in operands if not isinstance(x, keras.KerasTensor)]
    return Channels(axes, name in ZERO_OF_ZEROS and all(zeros) and not any(np.any(x) for x in constants))


def _merge(call: Call, flow: Flow, operands: list[Any], quantifier: Callable) -> Channels:
    if len({len(x.shape) for x in operands}) > 1:
        raise NotUnderstood  # Keras's merge layers align different ranks in a way of their own.
    axes = broadcast(flow, [operand(flow, x) for x in operands])
    return Channels(axes, quantifier([_zero_in(flow, x) for x in operands]))


def _zero_in(flow: Flow, tensor: keras.KerasTensor) -> bool:
    channels = flow.of(tensor)
    return channels.zero and channels.cuttable
