"""Learning rates over time: warm-up, then constant, cosine, linear or exponential."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from tfbig.errors import InvalidArgument, check_range, unknown

SCHEDULES = ("constant", "cosine", "linear", "exponential")


@keras.saving.register_keras_serializable(package="tfbig")
class WarmupThenDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly from zero over `warmup` steps, then decays from `peak` to `peak * floor` until `steps`.

    Args:
        peak: the highest learning rate, > 0.
        steps: optimizer steps of the whole training.
        shape: "constant", "cosine", "linear" or "exponential".
        warmup: steps of the rise, in [0, steps).
        floor: share of `peak` at the end; > 0 for "exponential", ignored by "constant".

    References:
        Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677, section 2.2 (warm-up).
        Loshchilov, Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017, equation 5 (cosine).
    """

    def __init__(self, peak: float, steps: int, shape: str = "cosine", warmup: int = 0, floor: float = 0.0):
        super().__init__()
        self.peak, self.steps, self.shape = peak, steps, shape
        self.warmup, self.floor = warmup, floor

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        done = ops.clip((step - self.warmup) / max(1, self.steps - self.warmup), 0.0, 1.0)
        decayed = self.peak * self._decay(done)
        if not self.warmup:
            return decayed
        return ops.where(step < self.warmup, self.peak * (step + 1.0) / self.warmup, decayed)

    def _decay(self, done: Any) -> Any:
        if self.shape == "cosine":
            return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + ops.cos(math.pi * done))
        if self.shape == "linear":
            return 1.0 - (1.0 - self.floor) * done
        if self.shape == "exponential":
            return ops.exp(math.log(self.floor) * done)
        return ops.ones_like(done)

    def get_config(self) -> dict[str, Any]:
        return {
            "peak": self.peak,
            "steps": self.steps,
            "shape": self.shape,
            "warmup": self.warmup,
            "floor": self.floor,
        }


def schedule(
    shape: str, *, learning_rate: float, steps: int, warmup: float = 0.0, floor: float | None = None
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a learning rate schedule.

    Args:
        shape: "constant", "cosine", "linear" or "exponential".
        learning_rate: the highest rate, > 0.
        steps: optimizer steps of the whole training, >= 1.
        warmup: a share of `steps` in [0, 1), or a whole number of steps >= 1.
        floor: share of the highest rate that is left at the end, in [0, 1]; 0 unless given, for "exponential" 0.01.

    Raises:
        InvalidArgument: an unknown shape or a value out of range.
    """
    if shape not in SCHEDULES:
        raise unknown("schedule", shape, SCHEDULES)
    check_range("learning_rate", learning_rate, 0, math.inf, closed="neither")
    floor = (0.01 if shape == "exponential" else 0.0) if floor is None else floor
    check_range("floor", floor, 0, 1, closed="right" if shape == "exponential" else "both")
    return WarmupThenDecay(learning_rate, steps, shape, warmup_steps(warmup, steps), floor)


def warmup_steps(warmup: float, steps: int) -> int:
    """Steps of the warm-up: a share of all steps if below 1, else that many.

    Raises:
        InvalidArgument: negative, or not shorter than the training.
    """
    check_range("warmup", warmup, 0, math.inf, closed="left")
    count = round(warmup * steps) if warmup < 1 else round(warmup)
    if count >= max(1, steps):
        raise InvalidArgument(f"`warmup` must be shorter than the training of {steps} steps, received {warmup}.")
    return count
