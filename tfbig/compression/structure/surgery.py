"""Rebuilds a model with other layers in it: operations from edited configurations, weights carried over."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

import keras
import numpy as np
from keras.src.saving.serialization_lib import SafeModeScope

from tfbig.compression.native.clone import copy_assets_of
from tfbig.compression.structure.graph import describe, input_layers, is_graph, pack_inputs, run
from tfbig.errors import InvalidModel

Operations = Sequence[keras.Operation]
Shape = tuple[int | None, ...]


class Surgery:
    """One rebuild: every operation of the original is replaced once, however often it is called.

    Args:
        replace: gives the operations that take the place of one, to be called one after another.
        input_shapes: gives the shapes, batch included, of a nested model's inputs; by default its own.
    """

    def __init__(
        self,
        replace: Callable[[keras.Operation], Operations],
        *,
        input_shapes: Callable[[keras.Model], Sequence[Shape]] | None = None,
    ):
        self._replace = replace
        self._input_shapes = input_shapes or (lambda model: [tuple(x.shape) for x in model.inputs])
        self._replaced: dict[int, tuple[keras.Operation, Operations]] = {}

    def rebuild(self, model: keras.Model) -> keras.Model:
        """Returns a new model of the same kind and name; nested models stay nested."""
        if isinstance(model, keras.Sequential):
            rebuilt = self._sequential(model)
        else:
            inputs = self._inputs(model)
            outputs = run(model, inputs, self._call)
            rebuilt = keras.Model(pack_inputs(model, inputs), outputs, name=model.name)
        if not model.trainable:
            rebuilt.trainable = False
        return rebuilt

    def pairs(self) -> Iterator[tuple[keras.Operation, Operations]]:
        """Each original operation with what took its place, nested models left out."""
        return ((old, new) for old, new in self._replaced.values() if not is_graph(old))

    def _sequential(self, model: keras.Sequential) -> keras.Sequential:
        layers = [new for layer in model.layers for new in self._operations(layer)]
        return keras.Sequential([*self._inputs(model), *layers], name=model.name)

    def _inputs(self, model: keras.Model) -> list[keras.KerasTensor]:
        shapes = self._input_shapes(model)
        entries = zip(input_layers(model), shapes, strict=True)
        return [clone(layer, {"batch_shape": shape}).output for layer, shape in entries]

    def _operations(self, operation: keras.Operation) -> Operations:
        if id(operation) not in self._replaced:
            new = [self.rebuild(operation)] if is_graph(operation) else self._replace(operation)
            self._replaced[id(operation)] = operation, new
        return self._replaced[id(operation)][1]

    def _call(self, operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> Any:
        first, *rest = self._operations(operation)
        result = first(*args, **kwargs)
        for following in rest:
            result = following(result)
        return result


def clone(operation: keras.Operation, edits: dict[str, Any] | None = None) -> keras.Operation:
    """A new operation from the old one's configuration, with some options changed and new weights.

    Raises:
        InvalidModel: a layer cannot be made from its own configuration.
    """
    edits = edits or {}
    if not isinstance(operation, keras.Layer):
        return _clone_function(operation, edits)
    classes = {type(layer).__name__: type(layer) for layer in operation._flatten_layers()}
    try:
        # The layer lives in this process already: nothing foreign is loaded, nothing unsafe is saved.
        with SafeModeScope(False), keras.saving.custom_object_scope(classes), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The object being serialized includes a `lambda`")
            new = type(operation).from_config({**_configuration(operation), **edits})
    except (NotImplementedError, TypeError) as error:
        raise InvalidModel(
            f"Layer {describe(operation)} cannot be rebuilt from its configuration; give its class a "
            f"`get_config` that returns all arguments of its constructor. Keras says: {_first_line(error)}"
        ) from error
    return new


def copy_weights(
    old: keras.Layer,
    new: keras.Layer,
    take: Callable[[keras.Variable], np.ndarray] = lambda variable: variable.numpy(),
) -> None:
    """Gives `new` the weights of `old`, each as `take` returns it, and its other state.

    Raises:
        InvalidModel: the shapes do not fit: the layer was changed in a way that its class does not follow.
    """
    values = [take(variable) for variable in old.weights]
    wanted = [tuple(variable.shape) for variable in new.weights]
    if [value.shape for value in values] != wanted:
        raise InvalidModel(
            f"Layer {describe(old)} cannot be rebuilt: its weights have the shapes "
            f"{[value.shape for value in values]}, a new one of its class has {wanted}."
        )
    for variable, value in zip(new.weights, values, strict=True):
        variable.assign(value)
    copy_assets_of(old, new)


def _configuration(layer: keras.Layer) -> dict[str, Any]:
    """A layer's configuration, with an activation function as itself: Keras cannot name one of the user's own."""
    config = _unbuilt(layer.get_config())
    if "activation" in config and isinstance(layer.activation, FunctionType):
        config["activation"] = layer.activation
    return config


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]


def _unbuilt(config: Any) -> Any:
    """A configuration without the shapes that wrapped layers were built with: new ones may differ."""
    if isinstance(config, dict):
        return {key: _unbuilt(value) for key, value in config.items() if key != "build_config"}
    return [_unbuilt(value) for value in config] if isinstance(config, list) else config


def _clone_function(operation: keras.Operation, edits: dict[str, Any]) -> keras.Operation:
    """A second `keras.ops` operation: it has no weights, but records its place in the graph.

    An edited one is constructed anew, for Keras saves the arguments that it saw then.
    """
    if edits:
        names = inspect.signature(type(operation)).parameters
        return type(operation)(**{name: edits.get(name, getattr(operation, name)) for name in names})
    new = object.__new__(type(operation))  # Keras's own copy would save to a file and load it.
    vars(new).update(vars(operation), _inbound_nodes=[], _outbound_nodes=[])
    return new
