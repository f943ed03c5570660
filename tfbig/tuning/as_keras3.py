"""Models of tf_keras, which KerasTuner and Keras 3 refuse, as models of Keras 3."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any

import keras

from tfbig.compression.native.clone import check_keras_model, check_trainable, without_lora
from tfbig.compression.tfmot.toolkit import is_tf_keras
from tfbig.models.load import load


def as_keras3(model: Any) -> keras.Model:
    """The model itself, or a tf_keras model with the same weights in Keras 3.

    Raises:
        InvalidModel: neither, or not built.
    """
    if is_tf_keras(model):
        with tempfile.TemporaryDirectory(prefix="tfbig-") as folder:
            path = Path(folder) / "model.h5"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # That this format is an old one, it says.
                model.save(path, include_optimizer=False)
            return load(path)
    check_keras_model(model)
    check_trainable(model)
    return without_lora(model)
