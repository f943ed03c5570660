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
from tfbig.exporters.fresh_state import fresh_state
from tfbig.exporters.post_training import PostTraining
from tfbig.exporters.tf_keras_litert import exportable
from tfbig.files import atomic_files, refuse_existing


def export(
    model: keras.Model | Mapping[str, keras.Model],
    path: str | os.PathLike,
    *,
    quantize: str | PostTraining | None = None,
    calibration: Any = None,
    sparse: bool | None = None,
    opset: int | None = None,
    associated_files: Mapping[str, str] | None = None,
    select_tf_ops: bool = False,
    overwrite: bool = True,
) -> Path:
    """Writes `model` to `path` in the format of the suffix, and checks that the file computes what the model computes.

    `.tflite` (LiteRT), `.onnx`, `.keras`, `.h5`, `.cc` and `.c` (the LiteRT file as an array for microcontrollers, and
    its header `.h` beside it), `.engine` (TensorRT, and the ONNX file that it is built from), or no suffix for a
    SavedModel folder.

    Args:
        model: a built Keras 3 model. One that was trained under `tfbig.Quantize` becomes an integer file by itself.
            For LiteRT also several models by name, such as `{"encode": encoder, "decode_step": step}`: one file with a
            signature for each, and weights that they share in it once.
        path: the file or folder to write; it appears whole or not at all.
        quantize: for LiteRT and C arrays: None, "dynamic", "float16", "int8", "int16x8", "int4", "weight_only_int8" or
            "weight_only_int4", or a `PostTraining` with its options; for ONNX and TensorRT: None or "int8".
        calibration: for "int8", "int16x8" and "int4" of a model that was not trained for it: a batched dataset or an
            array of inputs that shows how large activations get. 128 examples are used: spread evenly over arrays, the
            first of a dataset, which should be shuffled. By name for several models.
        sparse: for LiteRT: store zeros compactly; None where it makes the file smaller and the gzipped file no larger,
            True wherever it makes the file smaller, False nowhere.
        opset: for ONNX and TensorRT: the version of ONNX's operators, 13 to 18; None: 17.
        associated_files: text by file name, such as the labels or the vocabulary, that the file carries inside it; read
            them with `tfbig.exporters.associated_files.read_associated_files`, or as the zip archive that they are.
        select_tf_ops: for LiteRT: leave operations that LiteRT has not to TensorFlow. The device then needs
            LiteRT's Flex delegate (some MB); the file cannot be run in Python, and is not compared with the model.
        overwrite: replace what stands at `path`.

    Returns:
        The path; where TensorRT is not installed, that of the ONNX file which its engine is built from.

    Raises:
        InvalidArgument: a suffix without a format, an option that the format does not have, or several models for a
            format that takes one.
        ConversionFailed: the converter refused or died, or what it wrote is not the model; nothing is kept.
        MissingPackage: the format needs an extra of tfbig; the message has the line that installs it.
        OutputExists: `path` exists and `overwrite` is false.
    """
    target = Path(path)
    several = isinstance(model, Mapping)
    models = {name: exportable(one, target) for name, one in (model if several else {"": model}).items()}
    for one in models.values():
        check_keras_model(one)
    writer = format_of(target)
    if several:
        _check_names(models, writer, target)
    options = {"quantize": quantize, "calibration": calibration, "sparse": sparse, "opset": opset}
    options["select_tf_ops"] = select_tf_ops or None
    given = {name: value for name, value in options.items() if value is not None}
    _check_options(given, writer, target)
    check_associated_files(associated_files or {}, target)
    refuse_existing(target, overwrite)
    with atomic_files(target, overwrite=overwrite) as partial, fresh_state(models.values()):
        writer.write_signatures(models, partial, **given) if several else writer.write(models[""], partial, **given)
        if associated_files:
            attach(partial, associated_files, target.suffix)
        written = sorted(file.name for file in partial.parent.iterdir())
    return target if target.name in written else target.with_name(written[0])


def _check_names(models: Mapping[str, Any], writer: Any, target: Path) -> None:
    if not hasattr(writer, "write_signatures"):
        takers = sorted(
            s for n in registry.names() if hasattr(registry[n], "write_signatures") for s in registry[n].suffixes
        )
        raise InvalidArgument(
            f"`model` holds {len(models)} models, but '{target.name}' takes one. Files of {', '.join(takers)} take "
            "several; export the others one by one."
        )
    if not models or not all(isinstance(name, str) and name for name in models):
        raise InvalidArgument(
            f"`model` must map names of signatures to models, such as {{'encode': model}}, received {list(models)}."
        )


def _check_options(given: Mapping[str, Any], writer: Any, target: Path) -> None:
    for name, value in given.items():
        if name not in _options_of(writer):
            takers = sorted(
                s for n in registry.names() if name in _options_of(registry[n]) for s in registry[n].suffixes
            )
            raise InvalidArgument(
                f"`{name}` does not apply to '{target.name}', received {name}={value!r}. It is for {', '.join(takers)}."
            )


def _options_of(writer: Any) -> Mapping[str, Any]:
    return inspect.signature(writer.write).parameters


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
