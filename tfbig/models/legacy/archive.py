"""`.keras` archives that tf_keras (Keras 2.12 and later) wrote."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import keras
from keras.src.saving.saving_lib import (
    H5IOStore,
    _load_state,
)  # The reader of this layout has no public name.
from keras.src.utils.naming import to_snake_case

from tfbig.errors import InvalidFile
from tfbig.models.legacy.graph import Child, Graph
from tfbig.models.legacy.h5_file import check_array
from tfbig.models.legacy.source import Source, decode, era_of

_WEIGHTS = "model.weights.h5"
_FOLDERS = ("layers", "_layer_checkpoint_dependencies")


def load(archive: zipfile.ZipFile, config: dict[str, Any], source: Source) -> keras.Model:
    """Rebuilds the model of an archive in Keras 3 and loads its weights.

    Raises:
        InvalidFile: weights that are missing or do not fit the configuration.
        InvalidModel: something that Keras 3 does not have.
    """
    graph = Graph(source)
    model = graph.make(config)
    store = H5IOStore(weights_file(archive, source.path), mode="r")
    try:
        _load_children(graph.children[id(model)], "", store, graph)
    finally:
        store.close()
    return model


def configuration(archive: zipfile.ZipFile, path: Path) -> tuple[dict[str, Any], int]:
    """The model's configuration, and the major version of the Keras that wrote it.

    Raises:
        InvalidFile: the archive has none.
    """
    names = archive.namelist()
    if "config.json" not in names:
        raise InvalidFile(f"`{path}` is a zip archive, but not a Keras model: it has no config.json.")
    metadata = json.loads(archive.read("metadata.json")) if "metadata.json" in names else {}
    return decode(archive.read("config.json"), path), era_of(metadata.get("keras_version", "3"))


def weights_file(archive: zipfile.ZipFile, path: Path) -> io.BytesIO:
    """The archive's HDF5 file of weights, each array of it checked.

    Raises:
        InvalidFile: it is not there, is damaged, or holds an array that is refused.
    """
    if _WEIGHTS not in archive.namelist():
        raise InvalidFile(f"`{path}` has no {_WEIGHTS}: the archive is not whole.")
    content = io.BytesIO(archive.read(_WEIGHTS))
    check_arrays(content, path)
    return content


def check_arrays(content: Any, path: Path) -> None:
    """Raises `InvalidFile` for a damaged HDF5 file, and for one with an array that is refused."""
    try:
        with h5py.File(content, "r") as file:
            file.visititems(lambda _, item: check_array(item, path) if isinstance(item, h5py.Dataset) else None)
    except OSError as error:
        raise InvalidFile(f"`{path}`: its HDF5 file of weights is damaged or truncated: {error}.") from error


def _load_children(children: list[Child], prefix: str, store: H5IOStore, graph: Graph) -> None:
    """Layers are kept under their class names, counted in the order of the file."""
    folder = next((f for f in _FOLDERS if store.has_path(prefix + f)), _FOLDERS[0])
    seen: Counter[str] = Counter()
    for child in children:
        name = to_snake_case(child.class_name)
        place = f"{prefix}{folder}/{name}_{seen[name]}" if seen[name] else f"{prefix}{folder}/{name}"
        seen[name] += 1
        if child.layer is None:
            continue
        if id(child.layer) in graph.children:
            _load_children(graph.children[id(child.layer)], f"{place}/", store, graph)
        else:
            _load_layer(child, place, store, graph.source)


def _load_layer(child: Child, place: str, store: H5IOStore, source: Source) -> None:
    failed: set[int] = set()
    errors: dict[int, Any] = {}
    _load_state(
        child.layer,
        weights_store=store,
        assets_store=None,
        inner_path=place,
        visited_saveables=set(),
        failed_saveables=failed,
        error_msgs=errors,
    )
    if failed:
        cause = next(iter(errors.values()))[1]
        raise InvalidFile(f"`{source.path}`: the weights do not fit the configuration. Layer '{child.name}': {cause}")
