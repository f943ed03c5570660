"""HDF5 files of Keras 3, whose own loader loses axes that are lists and refuses `keras.ops` calls."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import keras

from tfbig.models import safety
from tfbig.models.legacy.graph import Child, Graph
from tfbig.models.legacy.source import Source

_MODELS = {"Sequential": "keras", "Functional": "keras.src.models.functional", "Model": "keras"}
# Operations have no public module; a `.keras` file names them by these, too.
_OPERATIONS = tuple(f"keras.src.ops.{name}" for name in ("numpy", "nn", "core", "math", "linalg", "image"))


def make(entry: dict[str, Any], graph: Graph) -> keras.Model:
    """Makes the model of a Keras 3 HDF5 file; its configuration gets the modules that a `.keras` file has.

    Raises:
        InvalidModel: a class that is neither Keras's nor registered; the message names it.
    """
    source = graph.source
    config = _with_modules(entry, source)
    known = safety.resolve_customs(config, source.custom_objects, source.path)
    model = keras.saving.deserialize_keras_object(config, custom_objects=known, safe_mode=not source.unsafe)
    graph.children[id(model)] = [Child(layer.name, type(layer).__name__, layer) for layer in model.layers]
    return model


def _with_modules(entry: dict[str, Any], source: Source) -> dict[str, Any]:
    name, config = entry["class_name"], entry["config"]
    if "module" in entry:
        return entry
    if isinstance(config, dict) and isinstance(config.get("layers"), list):
        config = {**config, "layers": [_with_modules(layer, source) for layer in config["layers"]]}
    return {**entry, "module": _module(name, config, source), "registered_name": name, "config": config}


def _module(name: str, config: dict[str, Any], source: Source) -> str:
    if safety.find_custom((name,), source.custom_objects) is not None:
        return "custom"
    if name in _MODELS:
        return _MODELS[name]
    if "dtype" not in config:  # Every layer has one; an operation does not, and may share a layer's name.
        for module in _OPERATIONS:
            found = getattr(importlib.import_module(module), name, None)
            if inspect.isclass(found) and issubclass(found, keras.Operation):
                return module
    return "keras.layers" if hasattr(keras.layers, name) else "custom"
