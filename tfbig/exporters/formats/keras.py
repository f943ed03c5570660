"""Keras's own format (`.keras`)."""

from __future__ import annotations

from pathlib import Path

import keras

from tfbig.exporters.read_back import check_keras_file

suffixes = (".keras",)


def write(model: keras.Model, path: Path) -> dict:
    """Writes the model with its weights, optimizer and compression state."""
    model.save(path)
    check_keras_file(model, path)
    return {}
