"""Accumulated batches, several in one step: one is on its way back while the next goes forward, on cores left idle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from tfbig.training.overrides import overridden

_TOGETHER = 4  # More batches make the traced step larger and hardly faster.
_AT_A_TIME = 2  # Batches whose activations are in memory; of fewer than four it would be no memory saved.
_RANDOM = {"Multinomial", "ParameterizedTruncatedNormal", "TruncatedNormal"}


class Cycle:
    """A training step of several batches, with the same sums, steps and numbers as one after the other.

    Args:
        model: compiled and built, with an optimizer that accumulates.
        batches: in one step; a divisor of those that the optimizer accumulates.
    """

    def __init__(self, model: keras.Model, batches: int):
        self.model, self.batches = model, batches
        self._gradients = tf.function(self._gradients_of_a_batch, reduce_retracing=True, autograph=False)
        self._step = tf.function(self._step_of_all, reduce_retracing=True, autograph=False)

    def fits(self, left: int | None) -> bool:
        """Whether the next batches can be taken together: no step of the optimizer lies between them.

        Args:
            left: batches of the epoch, None if unknown.
        """
        return left is not None and left >= self.batches and not int(self.model.optimizer._iterations) % self.batches

    def __call__(self, iterator: Iterator) -> dict[str, Any]:
        return self._step(iterator)

    def _step_of_all(self, iterator: Iterator) -> dict[str, Any]:
        optimizer = self.model.optimizer
        found: list[list[Any]] = []
        for number in range(self.batches):
            with tf.control_dependencies(found[-_AT_A_TIME] if number >= _AT_A_TIME else []):
                batch = next(iterator)
            logs, gradients = (self._gradients_of_a_batch if self._draws(batch) else self._gradients)(batch)
            found.append([gradient for gradient in gradients if gradient is not None])
            # Where it is known that no step is due, no later batch has to wait for one.
            with overridden([optimizer] if number < self.batches - 1 else [], "_backend_apply_gradients", _add):
                optimizer.apply(gradients, self.model.trainable_weights)
        return logs

    def _draws(self, batch: Any) -> bool:
        """Whether a layer calls `tf.random`, of which all calls of one function would draw the same."""
        operations = self._gradients.get_concrete_function(batch).graph.get_operations()
        return any(op.type in _RANDOM or op.type.startswith("Random") for op in operations)

    def _gradients_of_a_batch(self, batch: Any) -> tuple[dict[str, Any], list[Any]]:
        found: list[Any] = []
        with overridden([self.model.optimizer], "apply", lambda _, gradients, variables: found.extend(gradients)):
            logs = self.model._autoconvert_optionals(self.model.train_step)(batch)
        return logs, found


def cycle(model: keras.Model) -> Cycle | None:
    """The step of several batches, or None where they are taken one by one.

    That is where fewer than four batches are accumulated, with a training step of the user's own, dynamic loss scaling,
    averages of the weights, which move with every batch, XLA, several devices, or a GPU, which no batch leaves idle.
    """
    optimizer = model.optimizer
    steps = getattr(optimizer, "gradient_accumulation_steps", None) or 0
    if steps < _TOGETHER or isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or optimizer.use_ema:
        return None
    own_step = type(model).train_step is not keras.Model.train_step or "train_step" in vars(model)
    one_device = model.distribute_strategy is tf.distribute.get_strategy() and not tf.config.list_logical_devices("GPU")
    if own_step or not one_device or model.run_eagerly or model.jit_compile or model.steps_per_execution != 1:
        return None
    together = max(count for count in range(1, _TOGETHER + 1) if steps % count == 0)
    return Cycle(model, together) if together > 1 else None


def _add(optimizer: keras.optimizers.Optimizer, gradients: list[Any], variables: list[Any]) -> None:
    sums = [optimizer._accumulated_gradients[optimizer._get_variable_index(variable)] for variable in variables]
    optimizer._backend_increment_gradient_accumulators(gradients, sums)
