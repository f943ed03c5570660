"""A model as one flat graph: nested models, attention blocks and custom layers opened up.

Quantization must see every tensor that a LiteRT file will hold. Keras graphs hide many of them: inside a nested model,
inside MultiHeadAttention, between a convolution and its `activation=`. `flatten` runs the model once more on symbolic
tensors and opens these on the way; all else, above all what behaves differently in training, stays the layer it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import tree
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.models.functional import Functional

from tfbig.compression.native.clone import first_line
from tfbig.compression.native.openings import opening
from tfbig.errors import InvalidModel

# Layers whose `activation` is taken off and made a step of its own, because LiteRT computes most of them as ops.
_ACTIVATED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_ATTENTION = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation of the flat graph; its tensors are named by the `id` of their symbolic counterparts."""

    operation: Any  # a Keras layer or a `keras.ops` operation
    arguments: Any  # Keras's record of the call; `fill_in` puts values into it
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def name(self) -> str:
        return getattr(self.operation, "path", None) or self.operation.name


@dataclasses.dataclass(frozen=True)
class Graph:
    """A flat model; `steps` are in the order of computation."""

    inputs: tuple[keras.KerasTensor, ...]
    steps: tuple[Step, ...]
    outputs: Any  # the structure that the model returns, of symbolic tensors
    tensors: dict[int, keras.KerasTensor]

    def run(self, values: Sequence[Any], call: Callable[[Step, tuple, dict], Any]) -> Any:
        """Computes the outputs for `values`, one for each input; `call(step, args, kwargs)` does one step."""
        known = {id(symbol): value for symbol, value in zip(self.inputs, values, strict=True)}
        for step in self.steps:
            args, kwargs = step.arguments.fill_in(known)
            known.update(zip(step.outputs, tree.flatten(call(step, args, kwargs)), strict=True))
        return tree.map_structure(lambda symbol: known[id(symbol)], self.outputs)


def flatten(model: keras.Model) -> Graph:
    """Returns the flat graph of `model`, and takes `activation=` off its layers: hand in a copy.

    Raises:
        InvalidModel: the model's `call` does something that needs real tensors.
    """
    opener = _Opener()
    functional = _functional(model)
    if isinstance(functional, Functional):
        inputs = [_fresh(x) for x in functional.inputs]
        outputs = opener.rerun(functional.inputs, functional._outputs_struct, inputs)
    else:
        args, kwargs = _recorded_inputs(model)
        inputs, inner, result = _trace(model, args, kwargs)
        outputs = opener.rerun(inner, result, inputs)
    return _sorted(inputs, outputs)


def bind(model: keras.Model, args: tuple, kwargs: dict[str, Any]) -> list[Any]:
    """The values of the flat graph's inputs in one call of the model."""
    functional = _functional(model)
    if isinstance(functional, Functional):
        return functional._standardize_inputs(args[0] if args else kwargs["inputs"])
    tensors = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
    return tree.flatten((args, tensors))


class _Opener:
    """Re-runs graphs on symbolic tensors; remembers the activations it took off, for layers used more than once."""

    def __init__(self) -> None:
        self.activations: dict[int, Callable] = {}

    def rerun(self, inputs: Sequence[Any], outputs: Any, actual: Sequence[Any]) -> Any:
        graph = _sorted(inputs, outputs)
        return graph.run(actual, lambda step, args, kwargs: self.open(step.operation, args, kwargs))

    def open(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        functional = _functional(operation)
        if isinstance(functional, Functional):
            return self.rerun(functional.inputs, functional._outputs_struct, tree.flatten(args[0]))
        if isinstance(operation, _ACTIVATED):
            return self.activated(operation, args, kwargs)
        if (written_out := opening(operation)) is not None:
            return written_out(args[0])
        if isinstance(operation, _ATTENTION):
            scored = {**kwargs, "return_attention_scores": True}
            outputs = self.traced(operation, args, scored)
            return outputs if kwargs.get("return_attention_scores") else outputs[0]
        if isinstance(operation, keras.Model):
            return self.traced(operation, args, kwargs)
        if _is_custom(operation):
            try:
                return self.traced(operation, args, kwargs)
            except InvalidModel:
                return operation(*args, **kwargs)  # It stays whole; what is inside it stays float, and is named.
        return operation(*args, **kwargs)

    def activated(self, layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        activation = self.activations.setdefault(id(layer), layer.activation)
        layer.activation = keras.activations.linear
        written_out = opening(layer)
        outputs = written_out(args[0]) if written_out else layer(*args, **kwargs)
        if activation is keras.activations.linear:
            return outputs
        return self.open(keras.layers.Activation(activation), (outputs,), {})

    def traced(self, operation: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        outer, inner, result = _trace(operation, args, kwargs)
        return self.rerun(inner, result, outer)


def _functional(model: Any) -> Any:
    return model._functional if isinstance(model, keras.Sequential) else model


def _is_custom(operation: Any) -> bool:
    is_layer = isinstance(operation, keras.layers.Layer)
    return (
        is_layer
        and not type(operation).__module__.startswith("keras.src.layers")
        and not operation._call_has_training_arg
    )


def _fresh(symbol: Any) -> keras.KerasTensor:
    return keras.KerasTensor(symbol.shape, symbol.dtype, name=symbol.name)


def _trace(operation: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[list, list, Any]:
    """Runs `operation.call` on symbolic tensors: the tensors outside, their stand-ins inside, and the result."""
    outer: list[Any] = []
    inner: list[Any] = []

    def stand_in(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        symbol = _fresh(value)
        outer.append(value)
        inner.append(symbol)
        if (mask := get_keras_mask(value)) is not None:
            set_keras_mask(symbol, _fresh(mask))
            outer.append(mask)
            inner.append(get_keras_mask(symbol))
        return symbol

    args, kwargs = tree.map_structure(stand_in, (args, kwargs))
    try:
        result = operation.call(*args, **kwargs)
        _sorted(inner, result)
    except Exception as error:  # Whatever a user's `call` raises when it meets a symbolic tensor.
        raise InvalidModel(
            f"`model`: the call of '{operation.name}' ({type(operation).__name__}) cannot be traced symbolically: "
            f"{first_line(error)} Write it with keras.ops and Keras layers only, without branching on values."
        ) from error
    return outer, inner, result


def _recorded_inputs(model: keras.Model) -> tuple[tuple, dict]:
    shapes = dict(getattr(model, "_build_shapes_dict", None) or {})
    if not shapes:
        raise InvalidModel(
            f"`model` '{model.name}' is subclassed and Keras did not record its input shape. Call "
            "model.build(input_shape) before compressing it."
        )
    symbols = {
        name.removesuffix("_shape"): _map_shapes(lambda s: keras.KerasTensor((None, *s[1:]), model.input_dtype), shape)
        for name, shape in shapes.items()
    }
    first = next(iter(symbols))
    return (symbols.pop(first),), symbols


def _map_shapes(make: Callable[[tuple], Any], shape: Any) -> Any:
    if isinstance(shape, dict):
        return {name: _map_shapes(make, one) for name, one in shape.items()}
    if all(d is None or isinstance(d, int) for d in shape):
        return make(tuple(shape))
    return [_map_shapes(make, one) for one in shape]


def _sorted(inputs: Sequence[Any], outputs: Any) -> Graph:
    """The graph between symbolic inputs and outputs, read from Keras's history of them."""
    tensors = {id(x): x for x in inputs}
    steps: list[Step] = []
    pending = [*reversed(tree.flatten(outputs))]
    while pending:
        symbol = pending[-1]
        if id(symbol) in tensors:
            pending.pop()
            continue
        history = getattr(symbol, "_keras_history", None)
        if history is None or history.operation is None:
            raise ValueError(f"the output {symbol} does not depend on the inputs by keras operations alone.")
        node = history.operation._inbound_nodes[history.node_index]
        missing = [x for x in node.input_tensors if id(x) not in tensors]
        if missing:
            pending.extend(reversed(missing))
            continue
        tensors.update((id(x), x) for x in node.outputs)
        ids = tuple(id(x) for x in node.input_tensors), tuple(id(x) for x in node.outputs)
        steps.append(Step(node.operation, node.arguments, *ids))
    return Graph(tuple(inputs), tuple(steps), outputs, tensors)
