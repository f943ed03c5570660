"""What a technique puts into a model while it trains: a transformation of the weights, with its own saved state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbig.compression.native.kernels import Kernel


class Machine(keras.layers.Layer):
    """Turns the weights that the optimizer sees into the weights that the model computes with.

    The state lives in variables, so that it is saved, restored and distributed with the model. Every replica computes
    the same state from the same weights, so variables are kept per replica, and are merged only when they are saved.

    Args:
        kernels: the weight tensors that the technique works on.
        name: the technique's name; a model has at most one machine of each name.
    """

    replaces_call = False  # Whether `call_model` computes the model's outputs in place of its own `call`.

    def __init__(self, kernels: Sequence[Kernel], name: str):
        super().__init__(name=name, dtype="float32")
        # The kernels belong to their layers: Keras must not track them a second time here.
        object.__setattr__(self, "kernels", tuple(kernels))
        self.step = self.state("step", (), "int64")
        self.total_steps = self.state("total_steps", (), "int64")
        self.built = True
        self._tracker.unlock()

    def state(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str,
        value: Any = None,
        aggregation: str = "only_first_replica",
    ) -> keras.Variable:
        """Creates a variable of the machine's state; an attribute must hold it, so that it is tracked."""
        return keras.Variable(
            tf.zeros(shape, dtype) if value is None else value,
            dtype=dtype,
            trainable=False,
            autocast=False,
            aggregation=aggregation,
            synchronization="on_read",
            name=name,
        )

    def transform(self, weights: list[tf.Tensor], training: bool) -> list[tf.Tensor]:
        """Maps the raw weights of `self.kernels` to those that the forward pass uses."""
        raise NotImplementedError(f"{type(self).__name__} must say how it transforms weights.")

    def call_model(self, args: tuple, kwargs: dict[str, Any], training: bool) -> Any:
        """Computes the model's outputs, when `replaces_call`."""
        raise NotImplementedError(f"{type(self).__name__} does not compute outputs.")

    def end_step(self, training: bool) -> None:
        """Called after each forward pass; one in training mode is one step."""
        if training:
            self.step.assign(self.step.value + 1)

    def settle(self) -> None:
        """Called before the transformed weights are written into the model for good."""


def straight_through(weight: tf.Tensor, transformed: tf.Tensor) -> tf.Tensor:
    """Computes with `transformed` and lets the gradient pass to `weight` unchanged (Bengio et al. 2013)."""
    return weight + tf.stop_gradient(transformed - weight)
