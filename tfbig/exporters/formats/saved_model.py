"""TensorFlow SavedModel: a folder that TF Serving loads, with a `serve` signature and an open batch size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from tfbig.compression.native.opener import functional_of
from tfbig.exporters.fresh_state import stateful_layers
from tfbig.exporters.read_back import check_saved_model
from tfbig.files import full_disk_as_os_error

suffixes = ("",)


def write(model: keras.Model, path: Path) -> dict:
    """Writes the inference graph of the model."""
    with full_disk_as_os_error():
        model.export(path, format="tf_saved_model", verbose=False, input_signature=_signature(model))
    check_saved_model(model, path)
    return {}


def _signature(model: keras.Model) -> list[Any] | None:
    """None for Keras's own, with an open batch; states are made for one batch size."""
    if not stateful_layers(model):
        return None
    return [
        keras.tree.map_structure(
            lambda x: keras.InputSpec(x.dtype, x.shape, name=x.name), functional_of(model)._inputs_struct
        )
    ]
