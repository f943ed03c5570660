"""Wraps tf_keras and Keras 3 models by TFMOT, and lets go of them again: what all techniques have in common."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import keras
import tensorflow as tf
import tf_keras

from tfbig.compression.native import clone as copying
from tfbig.compression.native.prepared import Prepared
from tfbig.compression.technique import Technique
from tfbig.compression.tfmot.bridge import copy_to_keras, to_tf_keras
from tfbig.compression.tfmot.bridged import Bridged, around, bridged_layer
from tfbig.compression.tfmot.tf_keras_models import check_model, copied
from tfbig.compression.tfmot.toolkit import is_tf_keras
from tfbig.errors import InvalidModel
from tfbig.registry import Registry

registry = Registry("tfbig.compression.tfmot.wrappers", "technique of engine='tfmot'")


def prepare(technique: Technique, model: Any) -> Any:
    """Returns a copy of `model` wrapped by TFMOT: of tf_keras for a tf_keras model, of Keras 3 for one of Keras 3.

    Raises:
        InvalidArgument: an option that TFMOT does not have.
        InvalidModel: a model that TFMOT does not take, or that cannot go over the bridge.
    """
    module = _module(technique.name)
    module.check_options(technique)
    if is_tf_keras(model):
        check_model(model)
        _refuse_wrapped(technique, model, model.name)
        return module.wrap(module.filled_in(technique, model), copied(model))
    copying.check_keras_model(model)
    _refuse_prepared(technique, model)
    twin = to_tf_keras(model)
    technique = module.filled_in(technique, twin)
    wrapped = module.wrap(technique, copied(twin))
    layer = Bridged(
        copying.serialize(model),
        {"name": technique.name, **technique.get_config()},
        module.structure(technique, twin, wrapped),
        inner=wrapped,
        custom_objects=copying.custom_objects_of(model),
        name=f"tfmot_{technique.name}",
    )
    return around(layer, model)


def finish(technique: Technique, model: Any) -> Any:
    """Returns the compressed model, of the kind that was prepared, without TFMOT's wrappers; quantized ones keep them.

    Raises:
        InvalidModel: the model was not prepared with this technique.
    """
    module = _module(technique.name)
    if is_tf_keras(model):
        _check_prepared(technique, model, module.is_wrapped(model))
        return module.finish(technique, model)
    layer = bridged_layer(model)
    _check_prepared(technique, model, layer is not None and layer.technique["name"] == technique.name)
    assert layer is not None
    finished = module.finish(technique, layer.inner)
    if module.STAYS_WRAPPED:
        kept = {**layer.technique, "preserve": False}
        return around(Bridged(layer.original, kept, {}, finished, layer.custom_objects, name=layer.name), model)
    plain = copying.deserialize(layer.original, layer.custom_objects)
    copy_to_keras(finished, plain)
    return plain


def verify(technique: Technique, model: Any) -> None:
    """Raises `InvariantBroken` unless a tf_keras or a bridged model has what the technique promises."""
    layer = bridged_layer(model)
    _module(technique.name).verify(technique, model if layer is None else layer.inner)


def takes(technique: Technique, kind: str, attribute: str) -> bool:
    """Whether TFMOT works on the attribute of layers of a kind, in Keras 3 as in tf_keras."""
    return _module(technique.name).takes(kind, attribute)


def rewrapped(model: keras.Model, technique: dict[str, Any], structure: dict[str, Any]) -> tf_keras.Model:
    """The wrapped tf_keras model of a `Bridged` layer's configuration, with new weights."""
    from tfbig.compression import technique_from_config  # The techniques import this module.

    chosen: Any = technique_from_config(technique)
    module = _module(chosen.name)
    twin = to_tf_keras(model)
    module.restore(twin, structure)
    wrapped = module.wrap(chosen, copied(twin))
    module.structure(chosen, twin, wrapped)
    return wrapped


def overwritten(technique: dict[str, Any], wrapped: tf_keras.Model) -> list[tf.Variable]:
    """Variables that TFMOT calls trainable and assigns itself."""
    return _module(technique["name"]).overwritten(wrapped)


def _module(name: str) -> ModuleType:
    return registry[name]


def _refuse_wrapped(technique: Technique, model: tf_keras.Model, name: str) -> None:
    under = [one for one in registry.names() if registry[one].is_wrapped(model)]
    if under:
        raise InvalidModel(
            f"`model` '{name}' is wrapped by TFMOT for {under[0]} already. Finish that first: "
            f"{under[0].capitalize()}(...).finish(model)."
        )


def _refuse_prepared(technique: Technique, model: keras.Model) -> None:
    layer = bridged_layer(model)
    if layer is not None:
        _refuse_wrapped(technique, layer.inner, model.name)
    if isinstance(model, Prepared):
        names = ", ".join(t.name for t in model.preparation.techniques)
        raise InvalidModel(
            f"`model` '{model.name}' is being trained under {names} by engine='native', and TFMOT cannot join in. "
            "Finish that first, or use engine='native' for both."
        )


def _check_prepared(technique: Technique, model: Any, prepared: bool) -> None:
    if not prepared:
        kind = type(technique).__name__
        raise InvalidModel(
            f"`model` '{getattr(model, 'name', model)}' was not prepared with {kind}(engine='tfmot'), so it cannot "
            f"be finished. Call {kind}(...).prepare(model) first, and finish what it returns."
        )
