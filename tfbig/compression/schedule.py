"""How sparsity grows while a model trains."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfbig.errors import InvalidArgument, check_range


@dataclasses.dataclass(frozen=True)
class Schedule:
    """Sparsity over training steps: `initial` at `begin`, `final` from `end` on, a power law between.

    Args:
        begin, end: an int counts steps (forward passes in training mode); a float in [0, 1] is a share of the training.
        power: 3 gives the cubic schedule of Zhu and Gupta 2017, equation (1); 1 is linear; 0 is constant from `begin`
            on.
        frequency: the mask is renewed every so many steps.
    """

    initial: float
    final: float
    begin: int | float
    end: int | float
    power: float
    frequency: int

    def check(self) -> None:
        """Raises `InvalidArgument` for values outside their ranges."""
        check_range("initial_sparsity", self.initial, 0, 1, closed="left")
        check_range("power", self.power, 0, 100)
        if not isinstance(self.frequency, int) or self.frequency < 1:
            raise InvalidArgument(f"`frequency` must be a number of steps, at least 1, received {self.frequency!r}.")
        for name, value in (("begin", self.begin), ("end", self.end)):
            if isinstance(value, bool) or value < 0 or (isinstance(value, float) and value > 1):
                raise InvalidArgument(
                    f"`{name}` must be a step (int, at least 0) or a share of training (float in [0, 1]), "
                    f"received {value!r}."
                )
        if type(self.begin) is type(self.end) and self.begin > self.end:
            raise InvalidArgument(f"`begin` must not be after `end`, received begin={self.begin!r}, end={self.end!r}.")

    def sparsity(self, step: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        """The sparsity at `step` of a training of `total` steps; a share of an unknown total (0) counts as past."""
        begin, end = self._steps(self.begin, total), self._steps(self.end, total)
        elapsed = tf.cast(step, tf.float32) - begin
        progress = tf.clip_by_value(tf.math.divide_no_nan(elapsed, tf.maximum(end - begin, 0.0)), 0.0, 1.0)
        progress = tf.where(elapsed >= end - begin, 1.0, progress)
        # 0 ** 0 is 1: a constant schedule is at its final value from the first step on.
        missing = tf.pow(1.0 - progress, self.power) if self.power else 0.0
        return self.final + (self.initial - self.final) * missing

    def due(self, step: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
        """Whether the mask is renewed at `step`: between begin and end, every `frequency` steps, and at the end."""
        begin, end = self._steps(self.begin, total), self._steps(self.end, total)
        now = tf.cast(step, tf.float32)
        regular = tf.equal(tf.math.floormod(now - begin, float(self.frequency)), 0.0)
        return (now >= begin) & (now <= end) & (regular | (now >= end))

    def _steps(self, when: int | float, total: tf.Tensor) -> tf.Tensor:
        if isinstance(when, int):
            return tf.constant(float(when))
        return tf.floor(when * tf.cast(total, tf.float32))
