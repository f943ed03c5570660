"""Keras files and SavedModels, read back after they were written and compared with the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.compression.native.clone import custom_objects_of, first_line
from tfbig.errors import ConversionFailed
from tfbig.exporters.fresh_state import stateful_layers
from tfbig.exporters.inference_graph import call_arguments, probe_inputs
from tfbig.exporters.verification import check_outputs

_OPEN_SIZE = 32  # of axes that the model leaves open
_BATCH = 2  # samples: a file must take more than one


def check_keras_file(model: keras.Model, path: Path) -> None:
    """Raises `ConversionFailed` unless the file at `path` loads and computes what `model` computes."""
    known = custom_objects_of(model)
    try:
        twin = keras.saving.load_model(path, custom_objects=known, compile=False, safe_mode=False)
    except Exception as error:  # Whatever the model's own classes raise when they are built again.
        raise ConversionFailed(
            f"The {path.suffix} file does not load again: {first_line(error)} It was not kept. Give every custom "
            "layer a get_config() that returns all arguments of __init__."
        ) from error
    args, kwargs = call_arguments(model, _probe(model))
    check_outputs(f"{path.suffix} file", _outputs(twin, args, kwargs), _outputs(model, args, kwargs), exact=True)


def check_saved_model(model: keras.Model, path: Path) -> None:
    """Raises `ConversionFailed` unless the SavedModel at `path` serves what `model` computes."""
    loaded = tf.saved_model.load(str(path))
    args, kwargs = call_arguments(model, _probe(model))
    check_outputs("SavedModel", _flat(loaded.serve(*args, **kwargs)), _outputs(model, args, kwargs), exact=True)


def _probe(model: keras.Model) -> list[Any]:
    seeds = range(1 if stateful_layers(model) else _BATCH)
    samples = [probe_inputs(model, seed=seed, open_size=_OPEN_SIZE) for seed in seeds]
    return [tf.convert_to_tensor(np.concatenate(values)) for values in zip(*samples, strict=True)]


def _outputs(model: keras.Model, args: tuple, kwargs: dict[str, Any]) -> list[np.ndarray]:
    return _flat(model(*args, **kwargs, training=False))


def _flat(outputs: Any) -> list[np.ndarray]:
    return [np.asarray(y, "float32") for y in keras.tree.flatten(outputs)]
