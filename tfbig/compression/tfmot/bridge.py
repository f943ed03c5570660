"""A Keras 3 model rebuilt in tf_keras: the same layers, the same weights, the same outputs."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tf_keras
from keras.src.models.functional import Functional
from tf_keras.src.engine.keras_tensor import KerasTensor

from tfbig.compression.tfmot.bridged import functional_of
from tfbig.compression.tfmot.counterparts import counterpart, has_counterpart, no_counterpart, runs_as_it_is
from tfbig.compression.tfmot.operations import run_operation
from tfbig.errors import InvalidModel

_TOLERANCE = 1e-4  # of the largest output; what differs by more is another computation, not another rounding


def to_tf_keras(model: keras.Model) -> tf_keras.Model:
    """Returns a tf_keras model with the layers, weights and outputs of `model`; nested models become part of it.

    Inputs and outputs are flat lists in the order of `model.inputs` and `model.outputs`.

    Raises:
        InvalidModel: something that tf_keras does not have; the message names the layer.
    """
    functional = _graph(model)
    if type(model).train_step is not keras.Model.train_step:
        raise InvalidModel(
            f"`model`: the class of '{model.name}', {type(model).__name__}, has a train_step of its own, which "
            "cannot go over the bridge to tf_keras for engine='tfmot'. Use engine='native', which keeps it."
        )
    builder = _Builder(model)
    inputs = [
        tf_keras.Input(batch_shape=tuple(x.shape), dtype=x.dtype, name=builder.unique(x.name))
        for x in functional.inputs
    ]
    outputs = keras.tree.flatten(builder.run(functional, inputs))
    twin = tf_keras.Model(inputs, outputs, name=_valid(model.name))
    for layer in twin.layers:
        if isinstance(layer, tf_keras.layers.BatchNormalization):
            layer.fused = False  # Its kernel rounds otherwise than Keras 3; copies of the model have it again.
    copy_to_tf_keras(model, twin)
    _check_outputs(model, twin)
    return twin


def copy_to_tf_keras(model: keras.Model, twin: tf_keras.Model) -> None:
    """Copies the weights of a Keras 3 model into its counterpart."""
    for layer, name in layers_by_name(model):
        for source, target in _paired(layer, twin.get_layer(name)):
            target.assign(source.value)


def copy_to_keras(twin: tf_keras.Model, model: keras.Model) -> None:
    """Copies the weights of a counterpart back into the Keras 3 model."""
    for layer, name in layers_by_name(model):
        for target, source in _paired(layer, twin.get_layer(name)):
            target.assign(source)
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()  # What a preprocessing layer derives from its weights.


def layers_by_name(model: keras.Model) -> list[tuple[keras.layers.Layer, str]]:
    """All layers with weights, those of nested models included, and the name of each in tf_keras."""
    names = _Builder(model).names
    return [(layer, names[id(layer)]) for layer in _leaves(model) if layer.weights]


class _Builder:
    """Walks the graph of a Keras 3 model and repeats each step in tf_keras."""

    def __init__(self, model: keras.Model):
        self.taken: set[str] = set()
        self.names = {id(layer): self.unique(layer.name) for layer in _leaves(model)}
        self.layers: dict[int, tf_keras.layers.Layer] = {}

    def unique(self, name: str) -> str:
        name = _valid(name)
        numbered = (f"{name}_{i}" for i in range(1, len(self.taken) + 2))
        chosen = name if name not in self.taken else next(n for n in numbered if n not in self.taken)
        self.taken.add(chosen)
        return chosen

    def run(self, functional: Functional, tensors: list[Any]) -> Any:
        return functional._run_through_graph(tensors, operation_fn=self.step, call_fn=_call)

    def step(self, operation: Any) -> Callable[..., Any]:
        if isinstance(operation, keras.Model):
            inner = _graph(operation)
            return lambda inputs, **kwargs: self.run(inner, keras.tree.flatten(inputs))
        if not isinstance(operation, keras.layers.Layer):
            return functools.partial(self.operation, operation)
        if has_counterpart(operation):
            if id(operation) not in self.layers:
                self.layers[id(operation)] = counterpart(operation, self.names[id(operation)])
            return self.layers[id(operation)]
        if not runs_as_it_is(operation):
            raise no_counterpart(operation, "tf_keras has no layer of this kind")
        return lambda *args, **kwargs: run_operation(operation, self.names[id(operation)], args, kwargs)

    def operation(self, operation: Any, *args: Any, **kwargs: Any) -> Any:
        name, kind = self.unique(operation.name), type(operation).__name__
        # Where tf_keras has a layer for it, TFMOT may know it.
        if kind == "Add" and _same_shape(args):
            return tf_keras.layers.Add(name=name)(list(args))
        if kind in ("Relu", "Relu6"):
            return tf_keras.layers.ReLU(6.0 if kind == "Relu6" else None, name=name)(*args)
        return run_operation(operation, name, args, kwargs)


def _call(step: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    kwargs.pop("training", None)  # Keras 3 overrides what a layer was called with by what the model is called with.
    return step(*args, **kwargs)


def _graph(model: keras.Model) -> Functional:
    functional = functional_of(model)
    if isinstance(functional, Functional) and type(functional).call is Functional.call:
        return functional
    raise InvalidModel(
        f"`model`: '{model.name}' ({type(model).__name__}) cannot be rebuilt in tf_keras for engine='tfmot', "
        "because its computation is Python code. Expected a built Functional or Sequential model. Use "
        "engine='native', which takes subclassed models."
    )


def _leaves(model: keras.Model) -> list[keras.layers.Layer]:
    found: dict[int, keras.layers.Layer] = {}
    for operation in _graph(model).operations:
        inner = _leaves(operation) if isinstance(operation, keras.Model) else [operation]
        found.update((id(x), x) for x in inner if isinstance(x, keras.layers.Layer))
    return [x for x in found.values() if not isinstance(x, keras.layers.InputLayer)]


def _paired(layer: keras.layers.Layer, twin: tf_keras.layers.Layer) -> list[tuple[keras.Variable, Any]]:
    if [tuple(v.shape) for v in layer.weights] != [tuple(v.shape) for v in twin.weights]:
        raise no_counterpart(layer, "its weights have other shapes in tf_keras")
    return list(zip(layer.weights, twin.weights, strict=True))


def _same_shape(args: tuple) -> bool:
    return len(args) == 2 and all(isinstance(x, KerasTensor) for x in args) and args[0].shape == args[1].shape


def _valid(name: str) -> str:
    """The name with only such characters as TensorFlow allows in a scope."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    return name if name[:1].isalnum() else f"layer{name}"


def _check_outputs(model: keras.Model, twin: tf_keras.Model) -> None:
    """Raises `InvalidModel` unless both compute the same for random inputs."""
    functional = _graph(model)
    if any(None in x.shape[1:] for x in functional.inputs):
        return
    rng = np.random.default_rng(0)
    values = [_random(x, rng) for x in functional.inputs]
    packed = keras.tree.pack_sequence_as(functional._inputs_struct, values)
    expected = keras.tree.flatten(functional(packed, training=False))
    for index, (want, got) in enumerate(zip(expected, keras.tree.flatten(twin(values, training=False)), strict=True)):
        want, got = np.asarray(want, "float64"), np.asarray(got, "float64")
        scale = max(float(np.max(np.abs(want), initial=0.0)), 1e-30)
        worst = float(np.max(np.abs(got - want), initial=0.0)) / scale
        if worst > _TOLERANCE:
            raise InvalidModel(
                f"`model` '{model.name}' rebuilt in tf_keras for engine='tfmot' does not compute the same: output "
                f"{index} differs by {worst:.2g} of its largest value. Use engine='native'."
            )


def _random(symbol: keras.KerasTensor, rng: np.random.Generator) -> np.ndarray:
    shape = (symbol.shape[0] or 1, *symbol.shape[1:])
    if "float" in symbol.dtype:
        return rng.random(shape).astype(symbol.dtype)
    return rng.integers(0, 2, shape).astype(symbol.dtype)
