"""Copies of tf_keras models, and what can be said about their layers."""

from __future__ import annotations

import contextlib
import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfbig.compression.tfmot.toolkit import toolkit
from tfbig.errors import InvalidArgument, InvalidModel, nearest

Replace = Callable[[tf_keras.layers.Layer], tf_keras.layers.Layer]


def check_model(model: tf_keras.Model) -> None:
    """Raises `InvalidModel` unless TFMOT can walk through the model."""
    if not isinstance(model, tf_keras.Sequential) and not getattr(model, "_is_graph_network", False):
        raise InvalidModel(
            f"`model` '{model.name}' ({type(model).__name__}) is a subclassed tf_keras model, which TFMOT does not "
            "take. Expected a Functional or Sequential model. Rebuild it with tf_keras.Model(inputs, outputs)."
        )
    if not model.built:
        raise InvalidModel(
            f"`model` must be built, but '{model.name}' has no weights yet. Call model.build(input_shape) first."
        )
    for layer in layers(model):
        for weight in layer.weights:
            if weight.dtype.is_floating and not np.all(np.isfinite(weight.numpy())):
                raise InvalidModel(
                    f"`model` holds NaN or infinite values in '{weight.name}'. Train it again with a smaller "
                    "learning rate, or load the last good weights, before compressing it."
                )


def copied(model: tf_keras.Model, replace: Replace | None = None) -> tf_keras.Model:
    """Returns a model that shares nothing with `model`, its weights included; uncompiled.

    Args:
        replace: makes each layer of the copy from that of the original; by default from its configuration. Weights are
            copied where the copy has as many as the original.
    """
    with known_classes(model):
        twin = _cloned(model, replace or fresh)
    if len(twin.weights) == len(model.weights):
        for new, old in zip(twin.weights, model.weights, strict=True):
            new.assign(old)
    return twin


def rewrapped(model: tf_keras.Model, replace: Replace) -> tf_keras.Model:
    """Returns a model around the very layers of `model`, those replaced that `replace` replaces."""
    return _cloned(model, replace)


def _cloned(model: tf_keras.Model, replace: Replace) -> tf_keras.Model:
    def step(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        return _cloned(layer, replace) if isinstance(layer, tf_keras.Model) else replace(layer)

    twin = tf_keras.models.clone_model(model, clone_function=step)
    if not twin.built:
        twin.build(model.input_shape)
    return twin


@contextlib.contextmanager
def known_classes(model: tf_keras.Model, *configs: Any) -> Iterator[None]:
    """While open, tf_keras finds TFMOT's classes, and those of the user's QuantizeConfigs, by name."""
    used = [getattr(layer, "quantize_config", None) for layer in layers(model)]
    classes = {type(c).__name__: type(c) for c in (*used, *configs) if c is not None and not isinstance(c, dict)}
    with toolkit().quantization.keras.quantize_scope(classes):
        yield


def fresh(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
    """A layer of the same configuration with weights of its own."""
    return type(layer).from_config(layer.get_config())


def layers(model: tf_keras.Model) -> Iterator[tf_keras.layers.Layer]:
    """The layers of a model, those of nested models included."""
    for layer in model.layers:
        if isinstance(layer, tf_keras.Model):
            yield from layers(layer)
        elif not isinstance(layer, tf_keras.layers.InputLayer):
            yield layer


def inside(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
    """The layer that a wrapper of TFMOT is around; any other layer itself."""
    ours = type(layer).__module__.startswith("tensorflow_model_optimization")
    return layer.layer if ours and isinstance(layer, tf_keras.layers.Wrapper) else layer


def quantized_weights(layer: tf_keras.layers.Layer) -> list[tf.Variable] | None:
    """The weights that a quantization wrapper rounds; None for any other layer."""
    held = getattr(layer, "_weight_vars", None)
    return None if held is None else [weight for weight, _, _ in held]


def short_name(name: str) -> str:
    """The name of a variable within its layer, from its whole name."""
    return re.sub(r":\d+$", "", name).rsplit("/", 1)[-1]


def matches(pattern: str, layer: tf_keras.layers.Layer) -> bool:
    """Whether a per-layer pattern means this layer: its type, or a glob on its name."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in (type(layer).__name__, layer.name))


def check_patterns(argument: str, patterns: Iterable[str], model: tf_keras.Model) -> None:
    """Raises `InvalidArgument` for a pattern that matches no layer, with the nearest layer names."""
    everything = list(layers(model))
    names = sorted({layer.name for layer in everything})
    for pattern in patterns:
        if not any(matches(pattern, layer) for layer in everything):
            raise InvalidArgument(
                f"`{argument}` has the pattern '{pattern}', which matches no layer. Expected a layer name, a glob "
                f"such as 'block1_*', or a layer type such as 'Dense'. Layers: {', '.join(names[:8])}"
                f"{', ...' if len(names) > 8 else ''}.{nearest(pattern, names)}"
            )


def check_precision(model: tf_keras.Model) -> None:
    """Raises `InvalidModel` for layers that compute in another precision than their weights have."""
    for layer in layers(model):
        if layer.weights and layer.compute_dtype != layer.variable_dtype:
            raise InvalidModel(
                f"`model`: layer '{layer.name}' computes in {layer.compute_dtype} with {layer.variable_dtype} "
                "weights, under which TFMOT fails. Build the model under the policy 'float32', or use engine='native'."
            )


def refused(error: Exception, model: tf_keras.Model) -> InvalidModel:
    """TFMOT's refusal of a model as an error that names the layer and the next step."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = next((line for line in lines if not line.startswith("Exception encountered")), type(error).__name__)
    guilty = next((layer for layer in layers(model) if f" {layer.name}:<class" in text), None)
    if guilty is not None:
        what, leave_out = f"layer '{guilty.name}' ({kind_of(guilty)})", f"exempt=['{guilty.name}']"
        return InvalidModel(
            f"TFMOT does not take {what} of '{model.name}'. Leave the layer as it is with {leave_out}, or use "
            "engine='native'."
        )
    return InvalidModel(f"TFMOT does not take '{model.name}': {text[:300].rstrip('.')}. Use engine='native'.")


def kind_of(layer: tf_keras.layers.Layer) -> str:
    """The layer's type, as its user knows it."""
    return type(getattr(layer, "operation", layer)).__name__


def untouched_options(technique: Any, allowed: Iterable[str], reason: str) -> None:
    """Raises `InvalidArgument` for an option that TFMOT does not have and that is not at its default."""
    for option, value in technique.get_config().items():
        if option in allowed:
            raise InvalidArgument(
                f"`{option}` is not an option of engine='tfmot', received {option}={value!r}: {reason} Leave it "
                "out, or use engine='native'."
            )
