"""What a model file may not do: hold code, name unregistered classes, unpack to far more than its size."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras

from tfbig.errors import InvalidFile, InvalidModel

# Classes whose configuration or assets hold code: Python bytecode, a TensorFlow graph, a pickled module.
CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
_TFMOT = ("PruneLowMagnitude", "ClusterWeights", "QuantizeLayer", "QuantizeWrapper", "QuantizeWrapperV2")

# Smaller files are unpacked whatever their ratio; genuine weights compress by far less than a hundred.
_BOMB_BYTES, _BOMB_RATIO = 1 << 28, 100


def objects(config: Any) -> Iterator[dict[str, Any]]:
    """Yields every serialized object in a configuration: each dictionary with a `class_name`."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for value in config.values():
            yield from objects(value)
    elif isinstance(config, list | tuple):
        for value in config:
            yield from objects(value)


def refuse_code(config: dict[str, Any], path: Path) -> None:
    """Raises `InvalidFile` if the configuration holds a Lambda or another carrier of code."""
    for entry in objects(config):
        if entry["class_name"] in CODE:
            raise InvalidFile(
                f"`{path}` holds code: {describe(entry)}. Loading it could run anything on this machine, so "
                "it is "
                "refused. If you trust where the file comes from, load it with unsafe=True."
            )


def describe(entry: dict[str, Any]) -> str:
    """ "layer 'conv1' of class Conv2D", for error messages."""
    config = entry.get("config")
    name = entry.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return f"layer '{name}' of class {entry['class_name']}" if name else f"an object of class {entry['class_name']}"


def find_custom(names: tuple[object, ...], custom_objects: dict[str, Any]) -> Any:
    """The registered object for the first of `names` that has one, "package>Name" or just "Name"; or None."""
    for name in names:
        if not isinstance(name, str):
            continue
        for key in (name, name.rpartition(">")[2]):
            found = keras.saving.get_registered_object(key, custom_objects)
            if found is not None:
                return found
    return None


def unknown_class(entry: dict[str, Any], path: Path) -> InvalidModel:
    """The error for a class that neither Keras 3 nor the user knows."""
    name = entry["class_name"]
    if name in _TFMOT:
        step = (
            "It is a wrapper of the TensorFlow Model Optimization Toolkit: take it off with `strip_pruning` "
            "or "
            "`strip_clustering` where the model was made, or bring the file in with `tfbig migrate`."
        )
    else:
        step = (
            f"Pass its Keras 3 implementation, custom_objects={{'{name}': {name}}}, or decorate the class "
            "with "
            "@keras.saving.register_keras_serializable() and import it before loading."
        )
    return InvalidModel(f"`{path}` needs {describe(entry)}, which Keras 3 does not have. {step}")


def resolve_customs(config: Any, custom_objects: dict[str, Any], path: Path) -> dict[str, Any]:
    """Returns the custom objects that a Keras 3 configuration needs, under the names that it uses.

    Raises:
        InvalidModel: a class or function that is neither Keras's nor registered nor in `custom_objects`.
    """
    needed = dict(custom_objects)
    for entry in objects(config):
        if "module" not in entry or str(entry["module"]).split(".")[0] in ("keras", "builtins"):
            continue
        if str(entry["module"]).split(".")[0] == "tfbig":
            importlib.import_module(entry["module"])  # Registers tfbig's own classes, such as models in training.
        function = entry["class_name"] == "function"
        name = entry["config"] if function else entry["class_name"]
        found = find_custom((entry.get("registered_name"), name), custom_objects)
        if found is None:
            raise unknown_class({**entry, "class_name": name, "config": None if function else entry["config"]}, path)
        needed.update({str(entry.get("registered_name") or name): found, str(name): found})
    return needed


def refuse_zip_bomb(archive: zipfile.ZipFile, path: Path) -> None:
    """Raises `InvalidFile` if a member of the archive unpacks to far more than it holds."""
    for member in archive.infolist():
        if member.file_size > _BOMB_BYTES and member.file_size > _BOMB_RATIO * member.compress_size:
            raise InvalidFile(
                f"`{path}` looks like a zip bomb: {member.filename} would unpack {member.compress_size:,} "
                "bytes to "
                f"{member.file_size:,}. Keras stores weights uncompressed; get the file again from its "
                "source."
            )


def refuse_array_bomb(name: str, declared: int, stored: int, path: Path) -> None:
    """Raises `InvalidFile` if an HDF5 array declares far more bytes than the file stores for it."""
    if declared > _BOMB_BYTES and declared > _BOMB_RATIO * stored:
        raise InvalidFile(
            f"`{path}` looks like a decompression bomb: weight {name} declares {declared:,} bytes and stores "
            f"{stored:,}. Get the file again from its source."
        )
