"""One layer of an old configuration as a Keras 3 layer: options renamed, dropped, or refused by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

from tfbig.errors import InvalidModel
from tfbig.models.activations import hard_sigmoid
from tfbig.models.legacy import keras1
from tfbig.models.legacy.source import Source
from tfbig.models.safety import describe, find_custom, unknown_class

_ANY = object()

# Options that Keras 3 no longer has, and the value at which leaving them out changes nothing.
_DROPPED: dict[str, Any] = {
    "batch_input_shape": _ANY,
    "batch_shape": _ANY,
    "input_shape": _ANY,
    "input_dtype": _ANY,
    "trainable": _ANY,  # Layers without weights do not all take it.
    "dynamic": False,
    "ragged": False,
    "implementation": _ANY,  # How a recurrent layer is computed, not what.
    "time_major": False,
    "input_length": _ANY,
    "noise_shape": None,
    "causal": False,
    "groups": 1,
    "fused": _ANY,
    "renorm": False,
    "renorm_clipping": _ANY,
    "renorm_momentum": _ANY,
    "virtual_batch_size": None,
    "adjustment": None,
    "robust_masking": _ANY,
    "softmax_robust_masking": _ANY,
    "rng_type": _ANY,
    "force_generator": _ANY,
    "query_shape": _ANY,
    "key_shape": _ANY,
    "value_shape": _ANY,
    "sparse": False,
    "optional": False,
    # Depthwise and separable convolutions inherited these and never read them.
    "kernel_initializer": _ANY,
    "kernel_regularizer": _ANY,
    "kernel_constraint": _ANY,
}

_RENAMED_CLASSES = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "SyncBatchNormalization": "BatchNormalization",
    "ThresholdedReLU": "ReLU",
}
_RENAMED_OPTIONS = {("LeakyReLU", "alpha"): "negative_slope", ("ThresholdedReLU", "theta"): "threshold"}
_NESTED = ("layer", "backward_layer", "cell", "cells")

Make = Callable[[dict[str, Any]], Any]


def make_layer(entry: dict[str, Any], source: Source, make_nested: Make) -> keras.Layer:
    """Returns the Keras 3 layer for one entry of an old configuration.

    Args:
        entry: dictionary with `class_name` and `config`; it is not changed.
        make_nested: makes the layers inside a wrapper (`Bidirectional`, `TimeDistributed`, `RNN`).

    Raises:
        InvalidModel: a class or an option that Keras 3 does not have.
    """
    custom = find_custom((entry.get("registered_name"), entry["class_name"]), source.custom_objects)
    if custom is not None:
        return _construct(custom, _common(entry["config"], ("batch_input_shape",)), entry, source)
    if source.era == 1:
        entry = keras1.upgraded(entry, source)
    name = _RENAMED_CLASSES.get(entry["class_name"], entry["class_name"])
    layer_class = getattr(keras.layers, name, None)
    if not (inspect.isclass(layer_class) and issubclass(layer_class, keras.layers.Layer)):
        raise unknown_class(entry, source.path)
    config = _repaired(entry, source) if source.era < 3 else dict(entry["config"])
    if name == "Lambda":
        config = _lambda_config(config)
    for key in _NESTED:
        if config.get(key) is not None:
            config[key] = _nested(config[key], make_nested)
    config = _without_dropped(config, layer_class, entry, source)
    return _construct(layer_class, config, entry, source)


def _nested(value: Any, make_nested: Make) -> Any:
    return [make_nested(cell) for cell in value] if isinstance(value, list) else make_nested(value)


def _construct(layer_class: Any, config: dict[str, Any], entry: dict[str, Any], source: Source) -> keras.Layer:
    nested = any(isinstance(config.get(key), keras.Layer | list) for key in _NESTED)
    try:
        with keras.saving.custom_object_scope(source.custom_objects):
            if layer_class is keras.layers.Lambda:
                return layer_class.from_config(config, safe_mode=not source.unsafe)
            return layer_class(**config) if nested else layer_class.from_config(config)
    except (TypeError, ValueError, KeyError, AttributeError, EOFError) as error:
        raise InvalidModel(f"`{source.path}`: {describe(entry)} cannot be made in Keras 3: {error}") from error


def _common(config: dict[str, Any], dropped: tuple[str, ...] = ()) -> dict[str, Any]:
    """What holds for every layer: a policy by its name, a name without slashes."""
    config = {key: value for key, value in config.items() if key not in dropped}
    policy = config.get("dtype")
    if isinstance(policy, dict):
        config["dtype"] = policy.get("config", {}).get("name")
    if config.get("dtype") in (None, "infer"):
        config.pop("dtype", None)
    if config.get("name"):
        config["name"] = config["name"].replace("/", "_")
    return config


def _repaired(entry: dict[str, Any], source: Source) -> dict[str, Any]:
    """The configuration in Keras 3's terms; a Keras 2 default that has changed since is written out."""
    class_name = entry["class_name"]
    config = _common(entry["config"])
    config = {_RENAMED_OPTIONS.get((class_name, key), key): value for key, value in config.items()}
    axis = config.get("axis")
    if class_name.startswith(("BatchNormalization", "SyncBatch")) and isinstance(axis, list):
        if len(axis) != 1:
            raise InvalidModel(f"`{source.path}`: {describe(entry)} normalizes axes {axis}; Keras 3 takes one.")
        config["axis"] = axis[0]
    if class_name == "SyncBatchNormalization":
        config["synchronized"] = True
    if class_name in ("GRU", "GRUCell"):
        config.setdefault("reset_after", False)
    if class_name in ("LSTM", "GRU", "LSTMCell", "GRUCell", "ConvLSTM2D"):
        config.setdefault("recurrent_activation", "hard_sigmoid")
    for key in ("activation", "recurrent_activation"):
        if key in config:
            config[key] = _activation(config[key])
    return {key: _initializer(value) if key.endswith("initializer") else value for key, value in config.items()}


def _activation(value: Any) -> Any:
    """Keras 3 changed what "hard_sigmoid" computes, so the old one comes as a function of its own."""
    if isinstance(value, dict) and value.get("class_name") == "function":
        value = value["config"]
    return hard_sigmoid if value == "hard_sigmoid" else value


def _initializer(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    config = {key: option for key, option in (value.get("config") or {}).items() if key != "dtype"}
    if config.get("distribution") == "normal":
        config["distribution"] = "truncated_normal"
    return {"class_name": value["class_name"], "config": config}


def _without_dropped(
    config: dict[str, Any], layer_class: type, entry: dict[str, Any], source: Source
) -> dict[str, Any]:
    known = _options(layer_class)
    kept = {}
    for key, value in config.items():
        if key in known and key not in ("batch_input_shape", "batch_shape", "input_shape"):
            kept[key] = value
        elif key not in _DROPPED or _DROPPED[key] not in (_ANY, value):
            raise InvalidModel(
                f"`{source.path}`: {describe(entry)} was saved with {key}={value!r}, which Keras 3's "
                f"{layer_class.__name__} does not offer; without it the outputs could differ."
            )
    return kept


def _options(layer_class: type) -> set[str]:
    """The names that the constructor takes, its bases' too as far as it passes `**kwargs` on."""
    names: set[str] = set()
    for base in layer_class.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters  # type: ignore[misc]
            names |= set(parameters)
            if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
                break
    return names


def _lambda_config(config: dict[str, Any]) -> dict[str, Any]:
    """A Keras 2 Lambda: three fields of bytecode in a list; only reached with unsafe=True."""
    config = {k: v for k, v in config.items() if not k.endswith("_type") and k not in ("module", "output_shape_module")}
    function = config.get("function")
    if isinstance(function, list):
        code = dict(zip(("code", "defaults", "closure"), function, strict=True))
        config["function"] = {"class_name": "__lambda__", "config": code}
    return config
