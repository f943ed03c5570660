"""Runs a SavedModel folder, in the child process that has TensorFlow."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfbig.errors import InvalidData, InvalidFile
from tfbig.measurement.samples import leaves
from tfbig.measurement.signature import natural_order
from tfbig.measurement.weights import WeightSummary, summarize_arrays


def predict(path: str, x: Any) -> list[np.ndarray]:
    """The outputs of the serving signature, in the order of `output_names`."""
    signature = _signature(path)
    names = _input_names(path)
    arrays = x if isinstance(x, dict) else dict(zip(names, leaves(x), strict=False))
    if sorted(arrays) != sorted(names) or (not isinstance(x, dict) and len(leaves(x)) != len(names)):
        received = ", ".join(arrays) if isinstance(x, dict) else f"{len(leaves(x))} arrays"
        raise InvalidData(
            f"`{path}` takes the inputs {', '.join(names)}, received {received}. Give one array for each."
        )
    specs = signature.structured_input_signature[1]
    outputs = signature(**{name: _fitting(path, specs[name], arrays[name]) for name in names})
    return [outputs[name].numpy() for name in output_names(path)]


def output_names(path: str) -> list[str]:
    """The names of the outputs: `output_0`, `output_1`, ... or the keys of a dictionary, sorted."""
    return natural_order(_signature(path).structured_outputs)


def weights(path: str) -> WeightSummary:
    """Counts over the variables of the SavedModel."""
    loaded = _load(path, _version(path))
    variables = getattr(loaded, "variables", None) or _signature(path).variables
    arrays = (variable.numpy() for variable in variables if variable.dtype.is_floating)
    return summarize_arrays(arrays)


def _fitting(path: str, spec: tf.TensorSpec, array: np.ndarray) -> tf.Tensor:
    if not spec.shape.is_compatible_with(array.shape):
        raise InvalidData(
            f"The data does not fit `{path}`: its input '{spec.name}' takes samples of shape "
            f"{tuple(spec.shape[1:])}, received {array.shape[1:]}. Reshape the data, or measure it with its "
            "own data."
        )
    return tf.cast(array, spec.dtype) if array.dtype.kind in "iufb" else tf.constant(array)


def _input_names(path: str) -> list[str]:
    """The names of the inputs in the order of the Keras model, where the SavedModel tells it."""
    names = natural_order(_signature(path).structured_input_signature[1])
    functions = getattr(getattr(_load(path, _version(path)), "serve", None), "concrete_functions", None)
    if functions:
        specs = tf.nest.flatten(functions[0].structured_input_signature[0])
        ordered = [spec.name for spec in specs]
        if sorted(ordered) == sorted(names):
            return ordered
    return names


def _signature(path: str) -> Any:
    signatures = _load(path, _version(path)).signatures
    if "serving_default" not in signatures:
        known = ", ".join(signatures) or "none"
        raise InvalidFile(
            f"`{path}` has no signature 'serving_default', which measuring calls; it has: {known}. "
            "Write it with model.export(folder) or tfbig.export(model, folder)."
        )
    return signatures["serving_default"]


def _version(path: str) -> int:
    return (Path(path) / "saved_model.pb").stat().st_mtime_ns


@functools.lru_cache(maxsize=1)
def _load(path: str, version: int) -> Any:
    # `version` makes a folder that was written anew a new key.
    try:
        return tf.saved_model.load(path)
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InvalidFile(f"`{path}` is not a readable SavedModel: {reason}. Export it again.") from error
