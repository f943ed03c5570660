"""What layers inside a model give, read while the model itself runs.

A second model that ends at the layer would leave out what a prepared student does on top of its graph (masks,
fake quantization). So the layers report what they return, only while a `record` is open, and nothing of it
stays behind.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from tfbig.errors import InvalidArgument, InvalidModel, nearest

Shape = tuple[int | None, ...]

_lock = threading.Lock()
_listening: dict[int, int] = {}  # id of a layer -> number of open records
_thread = threading.local()  # replicas of MirroredStrategy run in threads: each records for itself


@contextlib.contextmanager
def record(model: keras.Model, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """While open, collects what the named layers of `model` return; of several calls the last one counts."""
    layers = [find(model, name) for name in names]
    found: dict[str, Any] = {}
    outer = getattr(_thread, "records", ())
    _thread.records = (*outer, ({id(layer): name for name, layer in zip(names, layers, strict=True)}, found))
    for layer in layers:
        _listen(layer)
    activations = {name: _activation_taken_off(model, name) for name in names}
    try:
        yield found
        found.update({name: activations[name](value) for name, value in found.items()})
    finally:
        for layer in layers:
            _stop_listening(layer)
        _thread.records = outer


def find(model: keras.Model, name: str) -> keras.layers.Layer:
    """Returns the layer of that name, in nested models too.

    Raises:
        InvalidArgument: there is none; the message has the nearest name.
    """
    layers = {layer.name: layer for layer in reversed(list(inner_layers(model)))}
    if name not in layers:
        raise InvalidArgument(
            f"`features` and `attention` name layers, but model '{model.name}' has no layer '{name}'."
            f"{nearest(name, layers)} Its layers are listed by model.summary(expand_nested=True)."
        )
    return layers[name]


def inner_layers(model: keras.Model) -> Iterable[keras.layers.Layer]:
    """All layers inside `model`, outer ones first."""
    return model._flatten_layers(include_self=False)


def trace(model: keras.Model, names: Sequence[str] = ()) -> tuple[list[Shape], dict[str, Shape]]:
    """The shapes of what `model` and its named layers return, without computing anything.

    Raises:
        InvalidModel: Keras does not know the model's inputs, or a named layer is not called.
    """

    @tf.function(autograph=False)
    def run(x: Any) -> tuple[Any, dict[str, Any]]:
        with record(model, names) as found:
            return tree.flatten(model(x, training=False)), dict(found)

    outputs, found = run.get_concrete_function(input_specs(model)).structured_outputs
    check_recorded(model, names, found)
    return [tuple(o.shape) for o in outputs], {name: tuple(f.shape) for name, f in found.items()}


def check_recorded(model: keras.Model, names: Sequence[str], found: dict[str, Any]) -> None:
    """Raises `InvalidModel` for a layer that exists but gave nothing, or something that is not one tensor."""
    for name in names:
        if name not in found or isinstance(found[name], list | tuple | dict):
            raise InvalidModel(
                f"`features` and `attention` need layers that return one tensor, but '{name}' of model "
                f"'{model.name}' {'returns several' if name in found else 'is not called'} when the model "
                "runs. Name another layer."
            )


def input_specs(model: keras.Model) -> Any:
    """What `model` takes as its first argument, as `tf.TensorSpec` with a free batch axis.

    Raises:
        InvalidModel: a subclassed model that was never called.
    """
    functional = getattr(model, "_functional", None) or model
    struct = getattr(functional, "_inputs_struct", None)
    if struct is not None:
        return tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), struct)
    shapes = list((getattr(model, "_build_shapes_dict", None) or {}).values())
    if not shapes:
        raise InvalidModel(
            f"Model '{model.name}' is subclassed and Keras did not record its input shape. Call "
            "model.build(input_shape) before it teaches or learns."
        )
    return _specs_of_shapes(shapes[0], model.input_dtype)


def _specs_of_shapes(shape: Any, dtype: str) -> Any:
    if isinstance(shape, dict):
        return {name: _specs_of_shapes(inner, dtype) for name, inner in shape.items()}
    if all(d is None or isinstance(d, int) for d in shape):
        return tf.TensorSpec((None, *shape[1:]), dtype)
    return [_specs_of_shapes(inner, dtype) for inner in shape]


def _listen(layer: keras.layers.Layer) -> None:
    with _lock:
        _listening[id(layer)] = _listening.get(id(layer), 0) + 1
        if _listening[id(layer)] == 1:
            # Straight into the instance: Keras would take an assignment for new state of the layer.
            layer.__dict__["call"] = _reporting(layer)


def _stop_listening(layer: keras.layers.Layer) -> None:
    with _lock:
        _listening[id(layer)] -= 1
        if not _listening[id(layer)]:
            del _listening[id(layer)], layer.__dict__["call"]


def _activation_taken_off(model: keras.Model, name: str) -> Any:
    """What quantization computes as a step of its own, though the layer's output is meant to have it."""
    if not any(machine.replaces_call for machine in getattr(model, "machines", ())):
        return keras.activations.linear
    configs = (c for c in _configs(model.preparation.config) if c.get("name") == name and "activation" in c)
    return keras.activations.get(next(configs, {}).get("activation"))


def _configs(config: Any) -> Iterator[dict[str, Any]]:
    """All dictionaries inside a configuration."""
    if isinstance(config, dict):
        yield config
    inner = config.values() if isinstance(config, dict) else config if isinstance(config, list | tuple) else ()
    for value in inner:
        yield from _configs(value)


def _reporting(layer: keras.layers.Layer) -> Any:
    call = layer.call

    @functools.wraps(call)
    def report(*args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        for names, found in getattr(_thread, "records", ()):
            if id(layer) in names:
                found[names[id(layer)]] = outputs
        return outputs

    return report
