"""Layers that LiteRT computes in several steps, written out as those steps.

Each function takes the layer and its symbolic inputs, and gives the same output through `keras.ops`, so that every
tensor between the steps is seen and can be quantized. Where a form is better behaved in 8 bits, it is that form.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from tfbig.compression.native.affine import is_affine

# How far below all others a masked score is put: e ** -12 is far less than one of the 256 steps of a softmax.
_OUT_OF_SIGHT = 12.0
# Set on the softmax of attention that Keras computes in one operation: where all is hidden, all counts alike there,
# where the layer `Softmax` has zeros.
FUSED = "_tfbig_fused"
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def opening(operation: Any, kwargs: dict[str, Any]) -> Callable[..., Any] | None:
    """The function that writes a call of `operation` out, or None where it is one step for LiteRT too.

    Args:
        kwargs: the keyword arguments of the call; the function takes the positional ones.
    """
    if not type(operation).__module__.startswith("keras.src"):
        return None
    kind = type(operation).__name__
    if kind == "Activation":
        return _ACTIVATIONS.get(getattr(operation.activation, "__name__", ""))
    if not isinstance(operation, keras.layers.Layer):
        kind = kind.lower()
        return functools.partial(_OPS[kind], operation) if kind in _OPS else _ACTIVATIONS.get(_OP_NAMES.get(kind, kind))
    if kind not in _LAYERS or not _LAYERS[kind][0](operation, kwargs):
        return None
    return functools.partial(
        _LAYERS[kind][1], operation, **{k: v for k, v in kwargs.items() if k in ("mask", "reverse")}
    )


def _silu(x: Any) -> Any:
    return ops.multiply(x, ops.sigmoid(x))


def _hard_sigmoid(x: Any) -> Any:
    return ops.multiply(ops.relu6(ops.add(x, 3.0)), 1 / 6)


def _selu(x: Any) -> Any:
    # elu(x) is x or lies in (-1, 0): a leaky relu of slope alpha makes the alpha of selu out of it.
    return ops.multiply(ops.leaky_relu(ops.elu(x), _SELU_ALPHA), _SELU_SCALE)


def _softplus(x: Any) -> Any:
    # exp(x) would need a range that 8 bits cannot cut finely; sigmoid(|x|) lies in [0.5, 1], where log is tame.
    return ops.subtract(ops.relu(x), ops.log(ops.sigmoid(ops.abs(x))))


def _mish(x: Any) -> Any:
    return ops.multiply(x, ops.tanh(_softplus(x)))


def _softsign(x: Any) -> Any:
    # LiteRT's division of 8 bits overflows; one over a root, twice, is the same.
    root = ops.rsqrt(ops.add(ops.abs(x), 1.0))
    return ops.multiply(ops.multiply(x, root), root)


_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "silu": _silu,
    "hard_sigmoid": _hard_sigmoid,
    "selu": _selu,
    "softplus": _softplus,
    "mish": _mish,
    "softsign": _softsign,
}
_OP_NAMES = {"hardsigmoid": "hard_sigmoid"}


def _clip(operation: Any, x: Any) -> Any:
    return ops.minimum(ops.maximum(x, operation.x_min), operation.x_max)


def _square(operation: Any, x: Any) -> Any:
    return ops.multiply(x, x)


def _negative(operation: Any, x: Any) -> Any:
    return ops.multiply(x, -1.0)


_OPS: dict[str, Callable[..., Any]] = {"clip": _clip, "square": _square, "negative": _negative}


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


def _multiply(layer: Any, tensors: list) -> Any:
    return functools.reduce(ops.multiply, tensors)


def _maximum(layer: Any, tensors: list) -> Any:
    return functools.reduce(ops.maximum, tensors)


def _minimum(layer: Any, tensors: list) -> Any:
    return functools.reduce(ops.minimum, tensors)


def _average(layer: Any, tensors: list) -> Any:
    return ops.multiply(functools.reduce(ops.add, tensors), 1.0 / len(tensors))


def _relu(layer: Any, x: Any) -> Any:
    x = ops.leaky_relu(x, float(layer.negative_slope)) if layer.negative_slope else ops.relu(x)
    return x if layer.max_value is None else ops.minimum(x, float(layer.max_value))


def _prelu(layer: Any, x: Any) -> Any:
    return ops.add(ops.relu(x), ops.multiply(ops.minimum(x, 0.0), layer.alpha))


def _elu(layer: Any, x: Any) -> Any:
    # Below 0 a leaky relu of slope alpha makes the alpha of the layer out of the 1 that LiteRT's kernel has.
    return ops.elu(x) if layer.alpha == 1 else ops.leaky_relu(ops.elu(x), float(layer.alpha))


def masked_softmax(layer: Any, x: Any, mask: Any) -> Any:
    """Softmax over what the mask lets through, without the -1e9 that would take up the whole range of an integer."""
    visible = ops.cast(mask, "bool")
    scores = ops.softmax(ops.where(visible, x, out_of_sight(x)), axis=_single(layer.axis))
    return scores if getattr(layer, FUSED, False) else ops.where(visible, scores, 0.0)


def out_of_sight(scores: Any) -> Any:
    """For each sample a number so far below all of its scores that a softmax makes 0 of it."""
    inner = tuple(range(1, len(scores.shape)))
    return ops.subtract(ops.min(scores, axis=inner, keepdims=True), _OUT_OF_SIGHT)


def _single(axis: Any) -> int | None:
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    return axes[0] if len(axes) == 1 else None


def _reversed_embedding(layer: Any, x: Any, reverse: bool = False) -> Any:
    return ops.einsum("...d,vd->...v", x, layer.embeddings)


def _always(layer: Any, kwargs: dict[str, Any]) -> bool:
    return True


def _has_scalars(layer: Any, kwargs: dict[str, Any]) -> bool:
    return all(isinstance(value, int | float) for value in (layer.scale, layer.offset))


def _is_not_affine(layer: Any, kwargs: dict[str, Any]) -> bool:
    return not is_affine(layer, len(layer._build_input_shape))


def _is_unusual_relu(layer: Any, kwargs: dict[str, Any]) -> bool:
    return not layer.threshold and (bool(layer.negative_slope) or layer.max_value not in (None, 6))


def _same_ranks(layer: Any, kwargs: dict[str, Any]) -> bool:
    return not layer._reshape_required


def hides_some(layer: Any, kwargs: dict[str, Any]) -> bool:
    """Whether a call of `Softmax` has a mask, and one axis."""
    return kwargs.get("mask") is not None and _single(layer.axis) is not None


def _is_reversed_and_tied(layer: Any, kwargs: dict[str, Any]) -> bool:
    return bool(kwargs.get("reverse")) and layer.tie_weights and layer.logit_soft_cap is None


_LAYERS: dict[str, tuple[Callable[[Any, dict[str, Any]], bool], Callable[..., Any]]] = {
    "SeparableConv1D": (_always, _separable),
    "SeparableConv2D": (_always, _separable),
    "Rescaling": (_has_scalars, _rescaling),
    "Normalization": (_is_not_affine, _normalization),
    "Add": (_same_ranks, _add),
    "Multiply": (_same_ranks, _multiply),
    "Maximum": (_same_ranks, _maximum),
    "Minimum": (_same_ranks, _minimum),
    "Average": (_same_ranks, _average),
    "ReLU": (_is_unusual_relu, _relu),
    "PReLU": (_always, _prelu),
    "ELU": (_always, _elu),
    "Softmax": (hides_some, masked_softmax),
    "ReversibleEmbedding": (_is_reversed_and_tied, _reversed_embedding),
}
