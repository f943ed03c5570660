"""TensorFlow SavedModel: a folder that TF Serving loads, with a `serve` signature and an open batch size."""

from __future__ import annotations

from pathlib import Path

import keras

from tfbig.exporters.read_back import check_saved_model
from tfbig.files import full_disk_as_os_error

suffixes = ("",)


def write(model: keras.Model, path: Path) -> dict:
    """Writes the inference graph of the model."""
    with full_disk_as_os_error():
        model.export(path, format="tf_saved_model", verbose=False)
    check_saved_model(model, path)
    return {}
