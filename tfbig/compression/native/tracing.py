"""What a layer's `call` does, as a graph of Keras operations: the call runs once on symbolic tensors.

Weights of the layer and of the layers in it are symbols too while it runs, so that what is computed from weights alone
(a transposed kernel, a softmax over mixing weights) becomes steps of the graph and not a constant.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from keras.src.layers.layer import CallContext

from tfbig.compression.native.clone import first_line
from tfbig.compression.native.steps import Graph, Step, sort, takes_training


class Untraceable(Exception):
    """A `call` does what a graph of Keras operations cannot say; the text tells what."""


@dataclasses.dataclass(frozen=True)
class Trace:
    """A call as a graph; `outer` are the tensors it was called with, in the order of the graph's inputs."""

    graph: Graph
    outer: tuple[Any, ...]
    modes: tuple[bool | None, ...]  # of each step: the training mode that the code fixes, None where it follows


def trace(operation: Any, args: tuple, kwargs: dict[str, Any], mode: bool | None) -> Trace:
    """Traces `operation.call`; with no `mode` given, both in training and at inference, which must do the same steps.

    Raises:
        Untraceable: the call needs real tensors, branches on `training`, or changes state of its own.
    """
    if mode is not None:
        graph, outer = _traced(operation, args, kwargs, mode)
        return Trace(graph, outer, (mode,) * len(graph.steps))
    training, _ = _traced(operation, args, kwargs, True)
    graph, outer = _traced(operation, args, kwargs, False)
    _check_same(training, graph)
    return Trace(graph, outer, tuple(map(_fixed_mode, training.steps, graph.steps)))


def stand_ins(args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any], list[Any], list[Any]]:
    """The arguments with new symbols for their tensors; the tensors, masks included, and the new symbols."""
    outer: list[Any] = []
    inner: list[Any] = []

    def stand_in(value: Any) -> Any:
        if not isinstance(value, keras.KerasTensor):
            return value
        symbol = fresh(value)
        outer.append(value)
        inner.append(symbol)
        if (mask := get_keras_mask(value)) is not None:
            set_keras_mask(symbol, fresh(mask))
            outer.append(mask)
            inner.append(get_keras_mask(symbol))
        return symbol

    args, kwargs = tree.map_structure(stand_in, (args, kwargs))
    return args, kwargs, outer, inner


def fresh(symbol: Any) -> keras.KerasTensor:
    """A new symbol of the same shape, dtype and name."""
    return keras.KerasTensor(symbol.shape, symbol.dtype, name=symbol.name)


def _traced(operation: Any, args: tuple, kwargs: dict[str, Any], training: bool) -> tuple[Graph, tuple]:
    args, kwargs, outer, inner = stand_ins(args, kwargs)
    kwargs = {**kwargs, **masks_for(operation, args, kwargs)}
    if takes_training(operation):
        kwargs = {**kwargs, "training": training}
    watch = _Watch()
    with _call_context(operation, training), _symbolic_weights(operation) as weights, watch:
        try:
            result = operation.call(*args, **kwargs)
            graph = sort(inner, result, weights)
        except Exception as error:  # Whatever a user's `call` raises when it meets a symbolic tensor.
            raise Untraceable(first_line(error)) from error
    watch.check()
    return graph, tuple(outer)


def masks_for(operation: Any, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The masks that Keras hands a layer's `call` when the layer itself is called, as far as they are not given."""
    if not isinstance(operation, keras.layers.Layer):
        return {}
    given = operation._call_signature.bind_partial(*args, **kwargs).arguments
    tensors = {n: v for n, v in given.items() if any(isinstance(x, keras.KerasTensor) for x in tree.flatten(v))}
    names = {next(iter(tensors)): "mask"} if len(tensors) == 1 else {name: f"{name}_mask" for name in tensors}
    wanted = {n: mask for n, mask in names.items() if mask in operation._call_signature.parameters}
    return {
        mask: tree.map_structure(get_keras_mask, tensors[name])
        for name, mask in wanted.items()
        if given.get(mask) is None and any(get_keras_mask(x) is not None for x in tree.flatten(tensors[name]))
    }


class _Watch(keras.StatelessScope):
    """Notices what a call does to variables behind the back of the graph."""

    def __init__(self) -> None:
        super().__init__(collect_losses=True)
        self.read: list[keras.Variable] = []

    def get_current_value(self, variable: keras.Variable) -> Any:
        self.read.append(variable)
        return super().get_current_value(variable)

    def check(self) -> None:
        if self.state_mapping:
            raise Untraceable("It assigns to its variables.")
        if self.losses:
            raise Untraceable("It adds a loss.")
        if self.read:
            raise Untraceable(f"It computes with the value of '{self.read[0].path}' apart from its inputs.")


@contextlib.contextmanager
def _call_context(operation: Any, training: bool) -> Iterator[None]:
    """Lets layers inside find the training mode where they look for it."""
    before = get_global_attribute("current_call_ctx")
    context = CallContext(entry_layer=operation)
    context.set_value("training", training)
    set_global_attribute("current_call_ctx", context)
    try:
        yield
    finally:
        set_global_attribute("current_call_ctx", before)


@contextlib.contextmanager
def _symbolic_weights(operation: Any) -> Iterator[list[tuple[keras.KerasTensor, keras.Variable]]]:
    """Puts symbols in the place of all variables that the layer and the layers in it hold as attributes.

    A layer inside gets its variables back while it is called itself: then it is one step, and not looked into.
    """
    symbols: dict[int, tuple[keras.KerasTensor, keras.Variable]] = {}
    swaps = [_Swap(layer, symbols) for layer in operation._flatten_layers()]
    for swap in swaps:
        swap.begin(hooked=swap.layer is not operation)
    try:
        yield list(symbols.values())
    finally:
        for swap in swaps:
            swap.end()


class _Swap:
    """The exchange of one layer's variables for symbols."""

    def __init__(self, layer: Any, symbols: dict[int, tuple[keras.KerasTensor, keras.Variable]]):
        self.layer = layer
        self.variables = {k: v for k, v in vars(layer).items() if isinstance(v, keras.Variable)}
        for v in self.variables.values():
            dtype = layer.compute_dtype if v._autocast and "float" in str(v.dtype) else v.dtype
            symbols.setdefault(id(v), (keras.KerasTensor(v.shape, dtype, name=v.name), v))
        self.symbols = {name: symbols[id(v)][0] for name, v in self.variables.items()}

    def begin(self, hooked: bool) -> None:
        # Past Layer.__setattr__, which would track what it is given.
        vars(self.layer).update(self.symbols)
        if hooked and self.variables:
            vars(self.layer)["call"] = self.call

    def end(self) -> None:
        vars(self.layer).update(self.variables)
        vars(self.layer).pop("call", None)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        self.end()
        try:
            return self.layer.call(*args, **kwargs)
        finally:
            self.begin(hooked=True)


def _fixed_mode(training: Step, inference: Step) -> bool | None:
    modes = [step.arguments.kwargs.get("training") for step in (training, inference)]
    return modes[0] if modes[0] is not None and modes[0] == modes[1] else None


def _check_same(training: Graph, inference: Graph) -> None:
    if _description(training) != _description(inference):
        raise Untraceable("It does different things in training and at inference.")


def _description(graph: Graph) -> list[Any]:
    """The graph in terms that two traces of the same code share."""
    number: dict[int, Any] = {id(x): ("input", i) for i, x in enumerate(graph.inputs)}
    number.update((tensor, ("weight", id(variable))) for tensor, variable in graph.weights.items())
    lines: list[Any] = []
    for place, step in enumerate(graph.steps):
        kwargs = {name: value for name, value in step.arguments.kwargs.items() if name != "training"}
        arguments = [_plain(value, number) for value in tree.flatten((step.arguments.args, kwargs))]
        lines.append((_identity(step.operation), arguments))
        number.update((tensor, ("step", place, i)) for i, tensor in enumerate(step.outputs))
    return [*lines, [number[id(x)] for x in tree.flatten(graph.outputs)]]


def _identity(operation: Any) -> Any:
    if isinstance(operation, keras.layers.Layer):
        return id(operation)
    settings = {k: str(v) for k, v in vars(operation).items() if not k.startswith("_") and k != "name"}
    return type(operation), settings


def _plain(value: Any, number: dict[int, Any]) -> Any:
    if isinstance(value, keras.KerasTensor):
        return number[id(value)]
    if isinstance(value, keras.Variable):
        return id(value)
    return np.asarray(value).tobytes() if hasattr(value, "shape") else str(value)
