"""A tf_keras model that TFMOT quantized, as a Keras 3 model that is trained, saved and exported like any other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import tf_keras

from tfbig.compression.tfmot.adoption import TfKerasLayer, as_keras
from tfbig.compression.tfmot.old_files import check_safe, from_configuration


@keras.saving.register_keras_serializable(package="tfbig")
class Quantized(TfKerasLayer):
    """A tf_keras model with TFMOT's quantization wrappers, their ranges included, as one layer.

    Unlike a model that `tfbig.Quantize(engine="tfmot")` prepared, nothing is known of how it was made: its own tf_keras
    configuration stands for it in files.

    Args:
        model: the configuration of the tf_keras model, as JSON.
        inner: the model itself; without it, it is made anew, and a file brings its weights.
    """

    def __init__(self, model: str, inner: tf_keras.Model | None = None, **kwargs: Any):
        if inner is None:
            config, where = json.loads(model), Path(kwargs.get("name", "tfmot_quantize"))
            check_safe(config, where)
            inner = from_configuration(config, where, {})
        super().__init__(inner, **kwargs)
        self._model_config = model

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "model": self._model_config}


def quantized(model: tf_keras.Model) -> keras.Model:
    """A Keras 3 model around a tf_keras model that TFMOT quantized; both have the same variables."""
    return as_keras(model, Quantized(model.to_json(), inner=model, name="tfmot_quantize"))
