"""Activations that old models need and Keras 3 no longer has."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfbig", name="hard_sigmoid")
def hard_sigmoid(x: keras.KerasTensor) -> keras.KerasTensor:
    """The hard sigmoid of Keras 1 and 2, `clip(0.2 x + 0.5, 0, 1)`; Keras 3's has the slope 1/6 instead.

    It was the default of recurrent layers, so that many old files hold it.

    Reference:
        Courbariaux, Bengio, David, "BinaryConnect", NeurIPS 2015, section 2.3 (with another slope).
    """
    return ops.clip(0.2 * x + 0.5, 0.0, 1.0)
