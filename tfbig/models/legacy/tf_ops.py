"""Raw TensorFlow operations in a Keras 2 graph (`TFOpLambda`) as `keras.ops` calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras import ops

from tfbig.errors import InvalidModel
from tfbig.models.legacy.source import Source
from tfbig.models.safety import describe

CLASSES = ("TFOpLambda", "SlicingOpLambda")
_NO_EFFECT = ("name", "conjugate")


def _binary(op: Callable) -> Callable:
    return lambda x, y: op(x, y)


def _unary(op: Callable) -> Callable:
    return lambda x: op(x)


def _reduction(op: Callable) -> Callable:
    return lambda input_tensor, axis=None, keepdims=False: op(input_tensor, axis=axis, keepdims=keepdims)


def _getitem(x: Any, slice_spec: Any) -> Any:
    return x[tuple(_index(part) for part in slice_spec)]


def _index(part: Any) -> Any:
    return slice(part["start"], part["stop"], part["step"]) if isinstance(part, dict) else part


def _matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False) -> Any:
    a = ops.swapaxes(a, -1, -2) if transpose_a else a
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)


def _split(value: Any, num_or_size_splits: Any, axis: int = 0) -> Any:
    if isinstance(num_or_size_splits, int):
        return ops.split(value, num_or_size_splits, axis=axis)
    ends = [sum(num_or_size_splits[: count + 1]) for count in range(len(num_or_size_splits) - 1)]
    return ops.split(value, ends, axis=axis)


# The parameters carry TensorFlow's names, because the file holds them by name.
_OPS: dict[str, Callable] = {
    "__operators__.add": _binary(ops.add),
    "__operators__.getitem": _getitem,
    "math.add": _binary(ops.add),
    "math.subtract": _binary(ops.subtract),
    "math.multiply": _binary(ops.multiply),
    "math.divide": _binary(ops.divide),
    "math.truediv": _binary(ops.true_divide),
    "math.pow": _binary(ops.power),
    "math.maximum": _binary(ops.maximum),
    "math.minimum": _binary(ops.minimum),
    "math.abs": _unary(ops.abs),
    "math.negative": _unary(ops.negative),
    "math.exp": _unary(ops.exp),
    "math.log": _unary(ops.log),
    "math.sqrt": _unary(ops.sqrt),
    "math.rsqrt": _unary(ops.rsqrt),
    "math.square": _unary(ops.square),
    "math.sigmoid": _unary(ops.sigmoid),
    "math.tanh": _unary(ops.tanh),
    "math.softplus": lambda features: ops.softplus(features),
    "math.reduce_mean": _reduction(ops.mean),
    "math.reduce_sum": _reduction(ops.sum),
    "math.reduce_max": _reduction(ops.max),
    "math.reduce_min": _reduction(ops.min),
    "nn.relu": lambda features: ops.relu(features),
    "nn.relu6": lambda features: ops.relu6(features),
    "nn.elu": lambda features: ops.elu(features),
    "nn.leaky_relu": lambda features, alpha=0.2: ops.leaky_relu(features, negative_slope=alpha),
    "nn.gelu": lambda features, approximate=False: ops.gelu(features, approximate=approximate),
    "nn.silu": lambda features, beta=1.0: features * ops.sigmoid(beta * features),
    "nn.softmax": lambda logits, axis=-1: ops.softmax(logits, axis=-1 if axis is None else axis),
    "nn.log_softmax": lambda logits, axis=-1: ops.log_softmax(logits, axis=-1 if axis is None else axis),
    "linalg.matmul": _matmul,
    "concat": lambda values, axis: ops.concatenate(values, axis=axis),
    "stack": lambda values, axis=0: ops.stack(values, axis=axis),
    "split": _split,
    "reshape": lambda tensor, shape: ops.reshape(tensor, shape),
    "transpose": lambda a, perm=None: ops.transpose(a, perm),
    "expand_dims": lambda input, axis: ops.expand_dims(input, axis),
    "squeeze": lambda input, axis=None: ops.squeeze(input, axis),
    "tile": lambda input, multiples: ops.tile(input, multiples),
    "cast": lambda x, dtype: ops.cast(x, dtype),
    "clip_by_value": lambda t, clip_value_min, clip_value_max: ops.clip(t, clip_value_min, clip_value_max),
    "identity": lambda input: input,
}


def apply(entry: dict[str, Any], first: Any, options: dict[str, Any], source: Source) -> Any:
    """Applies the operation of one `TFOpLambda` entry.

    Args:
        first: the first argument of the call, a tensor or a list of tensors.
        options: the other arguments by TensorFlow's names.

    Raises:
        InvalidModel: an operation or an argument with no counterpart here.
    """
    symbol = known_symbol(entry, source.path)
    options = {key: value for key, value in options.items() if key not in _NO_EFFECT and value is not None}
    try:
        result = _OPS[symbol](first, **options)
    except (TypeError, ValueError) as error:
        raise InvalidModel(f"`{source.path}`: {describe(entry)}, tf.{symbol} with {options}: {error}") from error
    _rename(result, entry["name"].replace("/", "_"), keras.tree.flatten([first, options]))
    return result


def known_symbol(entry: dict[str, Any], path: Path) -> str:
    """The TensorFlow function that a `TFOpLambda` entry calls, by its name below `tf`.

    Raises:
        InvalidModel: it is none of those known here; an unknown one could do anything, such as write files.
    """
    symbol = str(entry["config"].get("function")).removeprefix("compat.v1.")
    if symbol not in _OPS:
        raise InvalidModel(
            f"`{path}`: {describe(entry)} calls tf.{symbol}, which has no counterpart here. Rebuild that part of the "
            "model with Keras layers and load the weights into it."
        )
    return symbol


def _rename(result: Any, name: str, inputs: list[Any]) -> None:
    """Names the new operations after the old one: the automatic names may be those of layers in the file."""
    known = {id(tensor) for tensor in inputs}
    waiting: list[Any] = keras.tree.flatten(result)
    renamed: list[keras.Operation] = []
    while waiting:
        tensor = waiting.pop(0)
        if id(tensor) in known or not isinstance(tensor, keras.KerasTensor):
            continue
        known.add(id(tensor))
        operation, node, _ = tensor._keras_history
        if operation not in renamed:
            operation.name = f"{name}_{len(renamed)}" if renamed else name
            renamed.append(operation)
        waiting += operation._inbound_nodes[node].input_tensors
