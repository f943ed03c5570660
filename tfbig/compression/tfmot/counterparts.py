"""For each layer of Keras 3 the layer of tf_keras that computes the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tf_keras

from tfbig.errors import InvalidModel

# Options that tf_keras spells differently.
_RENAMED = {"LeakyReLU": {"negative_slope": "alpha"}}
# Options that say how numbers are computed or drawn, not which.
_WITHOUT_EFFECT = {"seed", "use_cudnn", "flash_attention", "autocast"}
# Activations that compute the same under the same name; all others run as the Keras 3 functions that they are.
_SAME = {
    "elu", "exponential", "gelu", "linear", "mish", "relu", "selu", "sigmoid", "softmax", "softplus", "softsign",
    "tanh",
}  # fmt: skip
_WRAPPING = {"layer", "cell"}
# Options that tf_keras takes without naming them in its signatures.
_TAKEN = {"name", "trainable", "dtype", "activity_regularizer", "zero_output_for_mask"}
_ACTIVATIONS = ("activation", "recurrent_activation")
# Layers that hold code.
_IMPOSSIBLE = {"Lambda", "TFSMLayer", "JaxLayer", "FlaxLayer", "TorchModuleWrapper"}
# Layers with weights that run inside tf_keras as they are: those that Keras's own applications need.
_WITH_WEIGHTS = {"Normalization", "LayerScale"}


def has_counterpart(layer: keras.layers.Layer) -> bool:
    """Whether tf_keras has a layer of this kind that computes the same."""
    module, kind = type(layer).__module__, type(layer).__name__
    if module.startswith("keras.src.layers.preprocessing") and kind != "Rescaling":
        return False  # They resize and draw otherwise there, and forget what they adapted to when TFMOT copies them.
    known = hasattr(tf_keras.layers, kind) and kind not in _IMPOSSIBLE
    return module.startswith("keras.src.layers") and known


def runs_as_it_is(layer: keras.layers.Layer) -> bool:
    """Whether a layer of Keras's own that has no counterpart can run inside tf_keras as the layer it is."""
    module, kind = type(layer).__module__, type(layer).__name__
    if not module.startswith("keras.src") or kind in _IMPOSSIBLE:
        return False
    return kind in _WITH_WEIGHTS or not layer.weights


def counterpart(layer: keras.layers.Layer, name: str) -> tf_keras.layers.Layer:
    """Returns a new tf_keras layer of the same kind and options; its weights are not copied.

    Raises:
        InvalidModel: an option that tf_keras does not have.
    """
    config = _translated(keras.saving.serialize_keras_object(layer), layer)["config"]
    config["name"] = name
    for attribute in _ACTIVATIONS:
        if attribute in config and callable(getattr(layer, attribute, None)):
            config[attribute] = _activation(getattr(layer, attribute))
    cls = getattr(tf_keras.layers, type(layer).__name__)
    try:
        return cls.from_config(config) if _WRAPPING & config.keys() else cls(**config)
    except (TypeError, ValueError) as error:
        raise no_counterpart(layer, str(error).splitlines()[0]) from error


def no_counterpart(layer: Any, reason: str) -> InvalidModel:
    """The error for what cannot go over the bridge."""
    return InvalidModel(
        f"`model` cannot be rebuilt in tf_keras for engine='tfmot': '{layer.name}' ({type(layer).__name__}) has no "
        f"counterpart there: {reason.rstrip('.')}. Use engine='native', which takes every Keras 3 model."
    )


def _translated(value: Any, layer: Any) -> Any:
    """A Keras 3 configuration in the terms of tf_keras."""
    if isinstance(value, list | tuple):
        return type(value)(_translated(one, layer) for one in value)
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "DTypePolicy":
        return value["config"]["name"]
    if "class_name" not in value or "config" not in value:
        return {key: _translated(one, layer) for key, one in value.items()}
    config = _translated(value["config"], layer)
    if isinstance(config, dict):
        config = _known_options(value["class_name"], value.get("module") or "", config, layer)
    return {"class_name": value["class_name"], "config": config}


def _known_options(kind: str, module: str, config: dict[str, Any], layer: Any) -> dict[str, Any]:
    """Leaves out options that tf_keras does not have, if they have no effect."""
    if module == "keras.initializers":
        return {key: value for key, value in config.items() if key not in ("input_axes", "output_axes")}
    ours, theirs = getattr(keras.layers, kind, None), getattr(tf_keras.layers, kind, None)
    if ours is None or theirs is None:
        return config
    known = _options(theirs).keys() | _TAKEN
    defaults = {**_options(ours), "data_format": tf_keras.backend.image_data_format()}
    kept = {}
    for key, value in config.items():
        key = _RENAMED.get(kind, {}).get(key, key)
        if key in known:
            kept[key] = value
        elif key not in _WITHOUT_EFFECT and value not in (defaults.get(key), None, False):
            raise no_counterpart(layer, f"tf_keras has no `{key}`, which is {value!r}")
    return kept


def _options(cls: type) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            named = [p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
            options = {**{p.name: p.default for p in named}, **options}
            if not any(p.kind is p.VAR_KEYWORD for p in parameters):
                break
    return options


def _activation(function: Callable) -> Any:
    name = getattr(function, "__name__", type(function).__name__)
    if getattr(keras.activations, name, None) is not function:
        name = f"{name}_{id(function)}"
    elif name == "silu":
        return "swish"
    elif name in _SAME:
        return name

    def activation(x: Any) -> Any:
        return function(x)

    activation.__name__ = name
    return tf_keras.saving.register_keras_serializable(package="tfbig", name=name)(activation)
