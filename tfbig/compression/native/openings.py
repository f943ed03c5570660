"""Layers that LiteRT computes in several steps, written out as those steps.

Each function takes the layer and its symbolic inputs, and gives the same output through `keras.ops`, so that every
tensor between the steps is seen and can be quantized.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def _separable(layer: Any, x: Any) -> Any:
    shape = {"dilation_rate": layer.dilation_rate, "data_format": layer.data_format}
    x = ops.depthwise_conv(x, layer.depthwise_kernel, strides=layer.strides, padding=layer.padding, **shape)
    x = ops.conv(x, layer.pointwise_kernel, padding="valid", data_format=layer.data_format)
    return ops.add(x, layer.bias) if layer.use_bias else x


def _rescaling(layer: Any, x: Any) -> Any:
    x = ops.cast(x, layer.compute_dtype)
    return ops.add(ops.multiply(x, layer.scale), layer.offset)


def _normalization(layer: Any, x: Any) -> Any:
    x = ops.cast(x, layer.compute_dtype)
    deviation = ops.maximum(ops.sqrt(ops.convert_to_tensor(layer.variance)), keras.config.epsilon())
    mean = ops.convert_to_tensor(layer.mean)
    if layer.invert:
        return ops.add(ops.multiply(x, deviation), mean)
    return ops.divide(ops.subtract(x, mean), deviation)


def _add(layer: Any, tensors: list) -> Any:
    return functools.reduce(ops.add, tensors)


def _average(layer: Any, tensors: list) -> Any:
    return ops.multiply(functools.reduce(ops.add, tensors), 1.0 / len(tensors))


def _global_max(layer: Any, x: Any) -> Any:
    # LiteRT has an int8 kernel for MAX_POOL_2D, and AI Edge Quantizer quantizes it; it does not take REDUCE_MAX.
    height, width, channels = x.shape[1:]
    x = ops.max_pool(x, (height, width), padding="valid")
    return x if layer.keepdims else ops.reshape(x, (-1, channels))


def _leaky_relu(layer: Any, x: Any) -> Any:
    slope = getattr(layer, "negative_slope", None)
    return ops.maximum(x, ops.multiply(x, float(slope)))


def _silu(x: Any) -> Any:
    return ops.multiply(x, ops.sigmoid(x))


def opening(operation: Any) -> Callable[..., Any] | None:
    """The function that writes `operation` out, or None where it is one step for LiteRT too."""
    kind = type(operation).__name__ if type(operation).__module__.startswith("keras.src") else ""
    if kind == "Silu" or getattr(operation, "activation", None) is keras.activations.silu:
        return _silu
    if kind in ("SeparableConv1D", "SeparableConv2D"):
        return functools.partial(_separable, operation)
    if kind == "Rescaling" and _scalars(operation.scale, operation.offset):
        return functools.partial(_rescaling, operation)
    if kind == "Normalization":
        return functools.partial(_normalization, operation)
    if kind == "Add" and isinstance(operation, keras.layers.Layer):
        return functools.partial(_add, operation)
    if kind == "Average" and isinstance(operation, keras.layers.Layer):
        return functools.partial(_average, operation)
    if kind == "GlobalMaxPooling2D" and operation.data_format == "channels_last" and _known_size(operation):
        return functools.partial(_global_max, operation)
    if kind == "LeakyReLU" and 0 < operation.negative_slope < 1:
        return functools.partial(_leaky_relu, operation)
    return None


def _scalars(*values: Any) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _known_size(layer: Any) -> bool:
    return None not in layer.input.shape[1:3]
