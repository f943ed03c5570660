"""`tfbig.load`: a model file of any Keras era as a Keras 3 model."""

from __future__ import annotations

import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from tfbig.errors import InvalidFile, InvalidModel, TfbigError
from tfbig.models import safety
from tfbig.models.legacy import archive as legacy_archive
from tfbig.models.legacy import h5_file, saved_model
from tfbig.models.legacy.source import Source, decode

_HDF5 = b"\x89HDF\r\n\x1a\n"
_OTHER = {
    ".tflite": "A LiteRT file holds no layers to train or compress: measure it with tfbig.measure, look "
    "inside with "
    "tfbig.inspect, and load the Keras model that it was exported from.",
    ".onnx": "An ONNX file holds no Keras layers: measure it with tfbig.measure, and load the Keras model that it was "
    "exported from.",
    ".pkl": "A pickle runs code when it is read; save the model with model.save('model.keras').",
    ".pt": "Save the model from Keras with model.save('model.keras').",
    ".pb": "Give the SavedModel folder that it lies in.",
}


def load(path: str | os.PathLike, *, unsafe: bool = False, custom_objects: dict[str, Any] | None = None) -> keras.Model:
    """Loads a model file of any Keras era as a Keras 3 model with equal outputs (to 1e-5).

    Takes `.keras` (Keras 3, and tf_keras 2.12 and later), `.h5`/`.hdf5` of Keras 1, 2 and 3, and SavedModel
    folders of tf_keras. What an old file says in terms that Keras 3 no longer knows is repaired in memory;
    nothing is written. A `.keras` file of Keras 3 comes with its compile settings, all others uncompiled.

    Args:
        path: the file or folder; its content decides how it is read, not its suffix.
        unsafe: run code that the file holds (`Lambda`, `TFSMLayer`). Only for files whose source you trust.
        custom_objects: Keras 3 classes and functions by the name that the file has for them; those decorated
            with `keras.saving.register_keras_serializable` are found without.

    Returns:
        A built Keras 3 model.

    Raises:
        InvalidFile: missing, damaged, not a whole model, or holding code while `unsafe` is false.
        InvalidModel: a class, option or operation that Keras 3 does not have; the message names the layer.
    """
    file = Path(path)
    known = dict(custom_objects or {})
    try:
        return _READERS[kind_of_file(file)](file, unsafe=unsafe, custom_objects=known)
    except TfbigError:
        raise
    except Exception as error:  # Whatever a damaged file makes a reader raise, the user gets its name.
        raise InvalidFile(f"`{file}` cannot be loaded: {type(error).__name__}: {_first_lines(error)}") from error


def kind_of_file(path: Path) -> str:
    """What a model file is by its content: "h5", "archive", "saved_model", or "folder", an unpacked archive.

    Raises:
        InvalidFile: missing, empty, or something else.
    """
    if not path.exists():
        raise InvalidFile(f"`{path}` does not exist. Expected a model file (.keras, .h5) or a SavedModel folder.")
    if path.is_dir():
        if (path / "saved_model.pb").exists():
            return "saved_model"
        if (path / "config.json").exists() and (path / "metadata.json").exists():
            return "folder"
        raise InvalidFile(f"`{path}` is a folder, but not a SavedModel: it has no saved_model.pb.")
    with open(path, "rb") as file:
        head = file.read(8)
    if head == _HDF5:
        return "h5"
    if head[:4] == b"PK\x03\x04":
        return "archive"
    raise _not_a_model(path, len(head))


def _not_a_model(path: Path, size: int) -> InvalidFile:
    if not size:
        return InvalidFile(f"`{path}` is empty. Get the file again from its source.")
    step = _OTHER.get(path.suffix, "Expected a .keras archive, an .h5 file, or a SavedModel folder.")
    if path.suffix == ".keras":
        step = "A .keras file is a zip archive and this is not one: it is damaged, or its name is wrong."
    elif path.suffix in (".h5", ".hdf5"):
        step = "It does not begin like an HDF5 file: it is damaged, or its name is wrong."
    return InvalidFile(f"`{path}` is not a model file. {step}")


def _load_archive(path: Path, *, unsafe: bool, custom_objects: dict[str, Any]) -> keras.Model:
    try:
        with zipfile.ZipFile(path) as archive:
            safety.refuse_zip_bomb(archive, path)
            config, era = legacy_archive.configuration(archive, path)
            if not unsafe:
                safety.refuse_code(config, path)
            if era < 3:
                return legacy_archive.load(archive, config, Source(path, era, custom_objects, unsafe))
    except (zipfile.BadZipFile, EOFError) as error:
        raise InvalidFile(f"`{path}` is damaged or truncated: {error}. Get it again from its source.") from error
    with tempfile.TemporaryDirectory() as scratch:
        # Keras goes by the suffix, and unpacks large weights beside the file: here, in the scratch folder.
        link = Path(scratch) / "model.keras"
        link.symlink_to(path.resolve())
        return _load_keras3(link, config, path, unsafe, custom_objects)


def _load_folder(path: Path, *, unsafe: bool, custom_objects: dict[str, Any]) -> keras.Model:
    config = decode((path / "config.json").read_bytes(), path)
    if not unsafe:
        safety.refuse_code(config, path)
    return _load_keras3(path, config, path, unsafe, custom_objects)


def _load_keras3(
    place: Path, config: dict[str, Any], path: Path, unsafe: bool, custom_objects: dict[str, Any]
) -> keras.Model:
    """Keras's own loader; compile settings that cannot be restored are left out with a warning."""
    model = _with_settings(place, config, path, unsafe, custom_objects)
    if not model.built:
        recorded = "" if config.get("build_config") else "it was saved before it was called on data, or "
        raise InvalidModel(
            f"`{path}` holds a {type(model).__name__} that comes without its weights: {recorded}its call cannot be "
            "traced symbolically. Write it with keras.ops and Keras layers only, without branching on values, or make "
            "it a Functional model, and save it again."
        )
    return model


def _with_settings(
    place: Path, config: dict[str, Any], path: Path, unsafe: bool, custom_objects: dict[str, Any]
) -> keras.Model:
    compiled = config.pop("compile_config", None)
    known = safety.resolve_customs(config, custom_objects, path)
    try:
        if compiled:
            known = safety.resolve_customs(compiled, known, path)
        return _keras_load(place, path, known, unsafe, compile=True)
    except TfbigError as error:
        if not compiled or "weights do not fit" in str(error):
            raise
        model = _keras_load(place, path, known, unsafe, compile=False)
        warnings.warn(f"`{path}` comes uncompiled, because its compile settings need more: {error}", stacklevel=4)
        return model


def _keras_load(place: Path, path: Path, known: dict[str, Any], unsafe: bool, compile: bool) -> keras.Model:
    try:
        return keras.saving.load_model(place, custom_objects=known, compile=compile, safe_mode=not unsafe)
    except Exception as error:  # Keras lets through what its parts raise: h5py, zipfile, KeyError, ...
        if (ours := _own_error(error)) is not None:
            raise ours from error
        text = _first_lines(error)
        if "objects could not be loaded" in text or "mismatch" in text:
            raise InvalidFile(f"`{path}`: the weights do not fit the configuration: {text}") from error
        raise InvalidFile(f"`{path}` is damaged, or Keras {keras.__version__} cannot read it: {text}") from error


def _own_error(error: BaseException | None) -> TfbigError | None:
    """The error of tfbig's own behind one of Keras's, if there is one."""
    while error is not None and not isinstance(error, TfbigError):
        error = error.__cause__ or error.__context__
    return error


def _first_lines(error: BaseException, limit: int = 500) -> str:
    return " ".join(str(error).split())[:limit]


_READERS: dict[str, Callable[..., keras.Model]] = {
    "h5": h5_file.load,
    "archive": _load_archive,
    "saved_model": saved_model.load,
    "folder": _load_folder,
}
