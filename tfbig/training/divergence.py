"""Training that diverged: the loss is NaN or infinite."""

from __future__ import annotations

import math
from typing import Any

import keras
import tensorflow as tf

from tfbig.errors import TfbigError
from tfbig.training.state import Position, restore, variables

# The running mean of the loss stays NaN once it is, so that looking every few batches loses nothing.
_EVERY = 20


class TrainingDiverged(TfbigError, ArithmeticError):
    """The loss became NaN or infinite; the model holds its last good weights."""


class Guard:
    """Watches the loss, and keeps the state of the last epoch that was good."""

    def __init__(self, model: keras.Model):
        self.model = model
        self.good: dict[str, tf.Tensor] = {}
        self.epoch: int | None = None

    def remember(self, epoch: int) -> None:
        """Takes the current state as good: that of the beginning of `epoch`."""
        # On a CPU these are the variables' own values, which TensorFlow copies when a step first changes them.
        with tf.device("CPU"):
            self.good = {name: tf.identity(variable.value) for name, variable in variables(self.model).items()}
        self.epoch = epoch

    def check(self, logs: dict[str, Any], position: Position, taken: int, *, always: bool = False) -> None:
        """Raises `TrainingDiverged`, with the last good weights in the model, if the loss is not a number.

        Args:
            taken: batches of the step that ended at `position`.
            always: look now, and not every few batches only.
        """
        if (not always and position.batch % _EVERY >= taken) or "loss" not in (logs or {}):
            return
        loss = float(logs["loss"])
        if math.isfinite(loss):
            return
        restore(self.model, self.good, "the last good state")
        raise TrainingDiverged(
            f"The loss became {loss} in epoch {position.epoch + 1}, by batch {position.batch}. The model "
            "holds the "
            f"weights of the beginning of epoch {(self.epoch or 0) + 1}. Lower the learning rate, add a "
            "warm-up or "
            "clip_norm=1.0, and check the data for NaN and the labels for values out of range."
        )
