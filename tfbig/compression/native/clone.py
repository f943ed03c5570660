"""A second model, equal to the first in everything and sharing nothing with it."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from keras.src.saving.serialization_lib import ObjectSharingScope

from tfbig.errors import InvalidModel
from tfbig.training.overrides import overridden


def clone(model: keras.Model) -> keras.Model:
    """Returns a model of the same class with equal weights; it shares no variable with `model` and is not compiled.

    Raises:
        InvalidModel: `model` is not a built Keras 3 model, or holds an object that Keras cannot serialise.
    """
    check_keras_model(model)
    twin = deserialize(serialize(model), custom_objects_of(model))
    copy_weights(model.weights, twin)
    copy_assets(model._flatten_layers(), twin)
    return twin


def check_keras_model(model: Any) -> None:
    """Raises `InvalidModel` unless `model` is a Keras 3 model that has its weights."""
    if not isinstance(model, keras.Model):
        kind = f"{type(model).__module__}.{type(model).__name__}"
        raise InvalidModel(
            f"`model` must be a Keras 3 model, received {kind}. Load a file with tfbig.load(path); "
            "tf_keras models are taken by engine='tfmot'."
        )
    if not model.built:
        raise InvalidModel(
            f"`model` must be built, but '{model.name}' has no weights yet. Call it once on data, or call "
            "model.build(input_shape)."
        )


def check_trainable(model: keras.Model) -> None:
    """Raises `InvalidModel` for layers that Keras has quantized, and for weights of 16 bits."""
    refuse_quantized_by_keras(model)
    for layer in model._flatten_layers(include_self=False):
        if "float16" in layer.variable_dtype and layer._trainable_variables:
            raise InvalidModel(
                f"`model` '{model.name}' holds the weights of '{layer.name}' in {layer.variable_dtype}, in which the "
                f"small steps of a training are lost. Build it under the policy 'mixed_{layer.variable_dtype}', which "
                "computes in the same precision and keeps weights in float32."
            )


def refuse_quantized_by_keras(model: keras.Model) -> None:
    """Raises `InvalidModel` for a model whose layers Keras has quantized."""
    for layer in model._flatten_layers():
        if mode := getattr(layer, "quantization_mode", None):
            raise InvalidModel(
                f"`model` '{model.name}': its layer '{layer.name}' was quantized by Keras ({mode}), for its own "
                "kernels. Give the model from before model.quantize(...): tfbig.compress(model, 'int8', ...) and "
                "tfbig.export(model, path, quantize='int8') quantize it for the device."
            )


def without_lora(model: keras.Model) -> keras.Model:
    """`model`, or if layers have low-rank adapters (`enable_lora`), a copy with these merged into their kernels.

    What is zero in a kernel is so no longer where an adapter is added to it.
    """
    if not any(getattr(layer, "lora_enabled", False) for layer in model._flatten_layers()):
        return model
    source = clone(model)
    adapted = [layer for layer in source._flatten_layers() if getattr(layer, "lora_enabled", False)]
    adapters = {id(v) for layer in adapted for v in layer.weights if v.name.startswith("lora_")}
    for layer in adapted:
        name = "_kernel" if hasattr(layer, "_kernel") else "_embeddings"
        getattr(layer, name).assign(getattr(layer, name.removeprefix("_")))
    twin = deserialize(_without_adapters(serialize(source)), custom_objects_of(source))
    copy_weights([v for v in source.weights if id(v) not in adapters], twin)
    copy_assets(source._flatten_layers(), twin)
    return twin


def _without_adapters(config: Any) -> Any:
    if isinstance(config, dict):
        return {
            key: _without_adapters(value) for key, value in config.items() if key not in ("lora_rank", "lora_alpha")
        }
    return [_without_adapters(value) for value in config] if isinstance(config, list) else config


def serialize(model: keras.Model) -> dict[str, Any]:
    """The model's configuration without its weights, optimizer and loss."""
    models = [layer for layer in model._flatten_layers() if isinstance(layer, keras.Model)]
    try:
        # What a model was compiled with stays behind, and need not be something that Keras can write down.
        with _objects_shared(), overridden(models, "get_compile_config", lambda _: None):
            return keras.saving.serialize_keras_object(model)
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InvalidModel(_not_serialisable(model, error)) from error


def deserialize(config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> keras.Model:
    """Builds the model of `serialize`'s configuration, with new weights."""
    scope = keras.saving.custom_object_scope(custom_objects) if custom_objects else contextlib.nullcontext()
    with scope, _objects_shared():
        try:
            # A copy: Keras takes entries out of the configuration that it is given.
            model = keras.saving.deserialize_keras_object(copy.deepcopy(config), safe_mode=False)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise InvalidModel(
                f"`model` cannot be rebuilt from its configuration: {first_line(error)} {_mend(error)}"
            ) from error
    if not model.built:
        raise InvalidModel(
            f"`model` '{model.name}' cannot be rebuilt with its weights: {_why_not_built(config, model)}"
        )
    return model


def _mend(error: Exception) -> str:
    if "Could not interpret activation function" in str(error):
        return (
            "An activation is a lambda, or a function that Keras cannot find by its name. Give the layer a named "
            "function with @keras.saving.register_keras_serializable() on it."
        )
    return (
        "Give every custom layer a get_config() that returns all arguments of __init__, and register it with "
        "@keras.saving.register_keras_serializable()."
    )


@contextlib.contextmanager
def _objects_shared() -> Iterator[None]:
    """Writes or builds an object that occurs several times, such as a layer whose weights are tied, once."""
    names = ("shared_objects/id_to_obj_map", "shared_objects/id_to_config_map")
    outer = {name: get_global_attribute(name) for name in names}
    try:
        with ObjectSharingScope():
            yield
    finally:  # Keras's scope forgets the one around it, which is open while a model file is written or read.
        for name, value in outer.items():
            set_global_attribute(name, value)


def custom_objects_of(model: keras.Model) -> dict[str, Any]:
    """The classes of the model's own layers, by name, so that unregistered ones can be rebuilt in this process."""
    classes = {type(layer) for layer in model._flatten_layers()}
    return {cls.__name__: cls for cls in classes if not cls.__module__.startswith(("keras.", "tfbig."))}


def copy_weights(old: list[keras.Variable], twin: keras.Model) -> None:
    """Copies `old` into the weights of `twin`, matched by path where paths are unique and equal, by order otherwise."""
    new = twin.weights
    by_path = {v.path: v for v in old}
    if len(by_path) == len(old) == len(new) and all(v.path in by_path for v in new):
        old = [by_path[v.path] for v in new]
    if [tuple(v.shape) for v in old] != [tuple(v.shape) for v in new]:
        raise InvalidModel(
            f"`model` '{twin.name}' rebuilt from its configuration has {len(new)} weights, the original {len(old)}, "
            "and their shapes differ. Make sure that get_config() returns all arguments of __init__."
        )
    for before, after in zip(old, new, strict=True):
        after.assign(before)
    for layer in twin._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # It computes with constants made from its weights.


def copy_assets(layers: Iterable[keras.layers.Layer], twin: keras.Model) -> None:
    """Copies what layers keep beside their weights, such as the vocabulary that a lookup has adapted to."""
    for old, new in zip(layers, twin._flatten_layers(), strict=True):
        copy_assets_of(old, new)


def copy_assets_of(old: keras.layers.Layer, new: keras.layers.Layer) -> None:
    """As `copy_assets`, of one layer, by the files that Keras saves for it."""
    if hasattr(old, "save_assets"):
        with tempfile.TemporaryDirectory(prefix="tfbig-") as folder:
            old.save_assets(folder)
            new.load_assets(folder)


def first_line(error: BaseException) -> str:
    """The first line of an error's text, closed by a full stop."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text if text.endswith(".") else text + "."


def _why_not_built(config: dict[str, Any], model: keras.Model) -> str:
    recorded = "" if config.get("build_config") else "it was never called, or "
    return (
        f"{recorded}the call of {type(model).__name__} cannot be traced symbolically. Call it once on data; write it "
        "with keras.ops and Keras layers only, without branching on values, or make it a Functional model."
    )


def _not_serialisable(model: keras.Model, error: Exception) -> str:
    guilty = []
    for layer in model._flatten_layers(include_self=False):
        try:
            keras.saving.serialize_keras_object(layer)
        except (NotImplementedError, TypeError, ValueError):
            guilty.append(f"'{layer.name}' ({type(layer).__name__})")
    names = ", ".join(guilty) or f"'{model.name}' ({type(model).__name__})"
    return (
        f"`model` cannot be copied because Keras cannot serialise {names}: {first_line(error)} Give the class a "
        "get_config() that returns all arguments of __init__ and register it with "
        "@keras.saving.register_keras_serializable()."
    )
