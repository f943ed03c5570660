"""Whole models in one HDF5 file, as Keras 1 and 2 saved them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tfbig.errors import InvalidFile
from tfbig.models import safety
from tfbig.models.legacy import keras1_weights, keras3_h5
from tfbig.models.legacy.graph import Graph
from tfbig.models.legacy.source import Source, decode, era_of
from tfbig.models.legacy.weights import assign_all


def load(path: Path, *, unsafe: bool, custom_objects: dict[str, Any]) -> keras.Model:
    """Loads a whole-model HDF5 file of any Keras.

    Raises:
        InvalidFile: weights without a configuration, code, or weights that do not fit the configuration.
        InvalidModel: something that Keras 3 does not have.
    """
    with opened(path) as file:
        config = configuration(file, path)
        if not unsafe:
            safety.refuse_code(config, path)
        group = subgroup(file, "model_weights", path) if "model_weights" in file else file
        era = era_of(group.attrs.get("keras_version", file.attrs.get("keras_version")))
        graph = Graph(Source(path, era, custom_objects, unsafe))
        model = keras3_h5.make(config, graph) if era >= 3 else graph.make(config)
        saved = {name: list(arrays.values()) for name, arrays in arrays_by_layer(group, path).items()}
        assign_all(model, graph, saved, keras1_weights.converter(group) if era == 1 else None)
    return model


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Opens an HDF5 file for reading; a damaged one is an `InvalidFile`, also when it shows only later."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, RuntimeError) as error:
        raise InvalidFile(f"`{path}` is damaged or truncated: {error}. Get the file again from its source.") from error


def subgroup(parent: h5py.Group, name: str, path: Path) -> h5py.Group:
    """A group inside the same file; links to other files are refused.

    Raises:
        InvalidFile: not there, not a group, or an external link.
    """
    found = parent
    for part in name.split("/"):
        if isinstance(found.get(part, getlink=True), h5py.ExternalLink | h5py.SoftLink):
            raise InvalidFile(f"`{path}`: `{name}` is a link out of its place, which is refused.")
        found = found.get(part)
        if not isinstance(found, h5py.Group):
            raise InvalidFile(f"`{path}` has no group `{name}`: the file is damaged or not a Keras model.")
    return found


def check_array(dataset: Any, path: Path) -> None:
    """Raises `InvalidFile` for an array that is kept in another file, or that is a decompression bomb."""
    if not isinstance(dataset, h5py.Dataset) or dataset.external or dataset.is_virtual:
        raise InvalidFile(f"`{path}`: `{getattr(dataset, 'name', dataset)}` is not an array inside the file itself.")
    declared = dataset.size * dataset.dtype.itemsize
    safety.refuse_array_bomb(dataset.name, declared, dataset.id.get_storage_size(), path)


def configuration(file: h5py.File, path: Path) -> dict[str, Any]:
    """The model's configuration.

    Raises:
        InvalidFile: the file has none.
    """
    text = file.attrs.get("model_config")
    if text is not None:
        return decode(text, path)
    if {"layer_names", "layers", "_layer_checkpoint_dependencies", "vars"} & {*file.attrs, *file}:
        layers = [*_strings(file, "layer_names"), *file.get("layers", ())]
        quantized = any(name.startswith("quant") for name in layers)
        into = f"tfbig.migrate('{path}', architecture=model)" if quantized else f"model.load_weights('{path}')"
        raise InvalidFile(
            f"`{path}` holds weights only, not the model's architecture. Build the same model first, with its code or "
            f"tfbig.models.build(...), and load them into it: {into}."
        )
    raise InvalidFile(f"`{path}` is an HDF5 file, but not one of a Keras model (it has no model_config).")


def arrays_by_layer(group: h5py.Group, path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each layer by their names in the file, in its order."""
    return {name: _arrays(group, name, path) for name in _strings(group, "layer_names")}


def _arrays(group: h5py.Group, name: str, path: Path) -> dict[str, np.ndarray]:
    layer = subgroup(group, name, path)
    arrays = {}
    for weight in _strings(layer, "weight_names"):
        folder, _, last = weight.rpartition("/")
        parent = subgroup(layer, folder, path) if folder else layer
        if isinstance(parent.get(last, getlink=True), h5py.ExternalLink | h5py.SoftLink):
            raise InvalidFile(f"`{path}`: weight `{weight}` is a link out of its place, which is refused.")
        check_array(parent.get(last), path)
        arrays[weight] = np.asarray(parent[last])
    return arrays


def _strings(group: h5py.Group, name: str) -> list[str]:
    """An attribute that is a list of names; long lists are saved in numbered pieces."""
    pieces = [name] if name in group.attrs else []
    while f"{name}{len(pieces)}" in group.attrs:
        pieces.append(f"{name}{len(pieces)}")
    return [v.decode() if isinstance(v, bytes) else str(v) for piece in pieces for v in group.attrs[piece]]
