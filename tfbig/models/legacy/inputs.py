"""The inputs of a rebuilt model: shapes, dtypes and names from an old configuration."""

from __future__ import annotations

from typing import Any

import keras

from tfbig.errors import InvalidFile
from tfbig.models.legacy.source import Source
from tfbig.models.safety import describe


def plain_name(name: str | None) -> str | None:
    """The name without the slashes that Keras 3 does not take."""
    return name.replace("/", "_") if name else None


def input_layer(config: dict[str, Any]) -> keras.layers.InputLayer:
    """The input for the configuration of an old `InputLayer`."""
    shape = config.get("batch_input_shape") or config["batch_shape"]
    return keras.layers.InputLayer(
        batch_shape=tuple(shape),
        dtype=config.get("dtype") or config.get("input_dtype") or "float32",
        sparse=bool(config.get("sparse")),
        name=plain_name(config.get("name")),
    )


def sequential_input(
    config: dict[str, Any], first_layer: keras.Layer | None, source: Source
) -> keras.layers.InputLayer | None:
    """The input of a Sequential model, which old files keep in several places; None if they keep none."""
    entry = config["layers"][0] if config["layers"] else {"class_name": "", "config": {}}
    found = entry["config"] if isinstance(entry["config"], dict) else {}
    if entry["class_name"] == "InputLayer":
        check_input(entry, source)
        return input_layer(found)
    if isinstance(first_layer, keras.Model) and first_layer.built:
        tensor = first_layer.inputs[0]
        return keras.layers.InputLayer(batch_shape=tensor.shape, dtype=tensor.dtype)
    shape = found.get("batch_input_shape") or config.get("build_input_shape")
    if not isinstance(shape, list):
        return None
    return keras.layers.InputLayer(batch_shape=tuple(shape), dtype=found.get("input_dtype") or _dtype(found))


def _dtype(config: dict[str, Any]) -> str:
    dtype = config.get("dtype")
    return dtype if isinstance(dtype, str) and not dtype.startswith("mixed") else "float32"


def check_input(entry: dict[str, Any], source: Source) -> None:
    """Raises `InvalidFile` for an input that Keras 3 cannot take."""
    if entry["config"].get("ragged"):
        raise InvalidFile(f"`{source.path}`: {describe(entry)} takes ragged tensors, which Keras 3 does not.")
