"""`tfbig.export`: one model, one file, in the format that the file's name asks for."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfbig.compression.native.clone import check_keras_model
from tfbig.errors import InvalidArgument, nearest
from tfbig.exporters import registry
from tfbig.exporters.associated_files import attach, check_associated_files
from tfbig.exporters.tf_keras_litert import exportable
from tfbig.files import atomic_file, refuse_existing


def export(
    model: keras.Model,
    path: str | os.PathLike,
    *,
    quantize: str | None = None,
    calibration: Any = None,
    sparse: bool | None = None,
    associated_files: Mapping[str, str] | None = None,
    overwrite: bool = True,
) -> Path:
    """Writes `model` to `path` in the format of the suffix: `.tflite`, `.keras`, or none for a SavedModel folder.

    Args:
        model: a built Keras 3 model. One that was trained under `tfbig.Quantize` becomes an integer file by itself.
        path: the file or folder to write; it appears whole or not at all.
        quantize: for LiteRT: None, "dynamic", "float16", "int8", "int16x8", "int4", "weight_only_int8" or
            "weight_only_int4".
        calibration: for "int8", "int16x8" and "int4" of a model that was not trained for it: a batched dataset or an
            array of inputs that shows how large activations get; 128 examples of it are used.
        sparse: for LiteRT: store zeros compactly; None where it makes the file smaller and the gzipped file no larger,
            True wherever it makes the file smaller, False nowhere.
        associated_files: text by file name, such as the labels or the vocabulary, that the file carries inside it; read
            them with `tfbig.exporters.associated_files.read_associated_files`, or as the zip archive that they are.
        overwrite: replace what stands at `path`.

    Returns:
        The path.

    Raises:
        InvalidArgument: a suffix without a format, or an option that the format does not have.
        ConversionFailed: the converter refused or died; nothing was written.
        OutputExists: `path` exists and `overwrite` is false.
    """
    target = Path(path)
    model = exportable(model, target)
    check_keras_model(model)
    writer = format_of(target)
    options = {"quantize": quantize, "calibration": calibration, "sparse": sparse}
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if name not in inspect.signature(writer.write).parameters:
            raise InvalidArgument(
                f"`{name}` does not apply to '{target.name}', received {name}={given[name]!r}. It is for .tflite."
            )
    check_associated_files(associated_files or {}, target)
    refuse_existing(target, overwrite)
    with atomic_file(target) as partial:
        writer.write(model, partial, **given)
        if associated_files:
            attach(partial, associated_files, target.suffix)
    return target


def format_of(path: Path) -> Any:
    """The module that writes files with the suffix of `path`."""
    by_suffix = {suffix: name for name in registry.names() for suffix in registry[name].suffixes}
    if path.suffix not in by_suffix:
        known = sorted(suffix for suffix in by_suffix if suffix)
        raise InvalidArgument(
            f"`path` '{path.name}' has the suffix '{path.suffix}'. Expected one of {', '.join(known)}, or none for a "
            f"SavedModel folder.{nearest(path.suffix, known)}"
        )
    return registry[by_suffix[path.suffix]]
