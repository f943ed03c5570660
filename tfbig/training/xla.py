"""XLA or not: the first steps of a training try both, where there is enough left to win back what trying costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

_TIMED = 4  # Steps of each way that are timed.
_COMPILING = 5  # Compiling a step with XLA takes about so many times what tracing it takes.
_WORTH = 0.1  # The share of the remaining time that trying may cost.

Step = Callable[[Iterator], dict[str, Any]]


class Trial:
    """A training step that finds out whether XLA makes it faster. Its first steps train like all others.

    Args:
        model: compiled; its `jit_compile` is what the trial decides.
        make: gives the step function for the current `jit_compile`.
        steps: all steps of the training.
    """

    def __init__(self, model: keras.Model, make: Callable[[], Step], steps: int):
        self.model, self.make, self.left = model, make, steps
        self.current = make()
        self.seconds: dict[bool, list[float]] = {False: [], True: []}
        self.decided = False

    def __call__(self, iterator: Iterator) -> dict[str, Any]:
        if self.decided:
            return self.current(iterator)
        started = time.perf_counter()
        try:
            logs = self.current(iterator)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
            if not self.model.jit_compile:
                raise
            self._decide(False)  # XLA does not have one of the operations.
            return self.current(iterator)
        for value in logs.values():
            keras.ops.convert_to_numpy(value)  # Waits for the step to be done.
        self._took(time.perf_counter() - started)
        return logs

    def _took(self, seconds: float) -> None:
        with_xla = bool(self.model.jit_compile)
        mine = self.seconds[with_xla]
        mine.append(seconds)
        self.left -= self.model.steps_per_execution
        if len(mine) <= _TIMED:  # The first one traces.
            return
        if with_xla:
            self._decide(min(self.seconds[True][1:]) < min(self.seconds[False][1:]))
        elif worth_trying(tracing=mine[0] - min(mine[1:]), step=min(mine[1:]), steps=self.left):
            self._switch(True)
        else:
            self._decide(False)

    def _decide(self, with_xla: bool) -> None:
        self.decided = True
        if with_xla != self.model.jit_compile:
            self._switch(with_xla)

    def _switch(self, with_xla: bool) -> None:
        self.model.jit_compile = with_xla
        self.current = self.make()


def worth_trying(*, tracing: float, step: float, steps: int) -> bool:
    """Whether the training is long enough.

    Args:
        tracing: seconds it took to trace a step.
        step: seconds of a step without XLA.
        steps: steps that are left.
    """
    return _COMPILING * tracing < _WORTH * step * steps
