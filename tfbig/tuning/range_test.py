"""The learning rate range test: one short run whose rate grows until the loss does."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras
import numpy as np

from tfbig.training.compilation import OptimizerOptions, chosen_compilation
from tfbig.training.feed import feed

_LOWEST, _HIGHEST = 1e-6, 1.0
_SMOOTHING = 0.9  # of the running mean of the loss
_MARGIN = 10.0  # between the rate that a short run still bears and one that a training should begin with
_LOST = 4.0  # times the lowest loss so far: there is nothing to learn beyond


@dataclasses.dataclass(frozen=True)
class RangeTest:
    """What the test saw.

    Attributes:
        rates, losses: one of each per batch, the losses smoothed.
        rate: the suggestion: where the loss falls fastest, or less.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    rate: float


def range_test(
    model: keras.Model, data: Any, *, optimizer: str = "adam", loss: Any = None, steps: int = 100
) -> RangeTest:
    """Trains `model`, whose weights are lost by it, with a learning rate that grows from batch to batch.

    Args:
        data: as for `tfbig.training.fit`.
        steps: batches; the rate grows by the same factor with each.

    Reference:
        Smith, "Cyclical Learning Rates for Training Neural Networks" (2017), https://arxiv.org/abs/1506.01186,
        section 3.3.
    """
    source = feed(data)
    options = OptimizerOptions(chosen=optimizer, learning_rate=_LOWEST)
    chosen_compilation(model, options, source, loss=loss, metrics=None, smoothing=0.0, jit_compile=None).apply(model)
    losses: list[float] = []
    mean = 0.0
    rates = np.geomspace(_LOWEST, _HIGHEST, steps)
    for rate, batch in zip(rates, source.train.repeat(), strict=False):
        model.optimizer.learning_rate = float(rate)
        value = float(model.train_on_batch(*batch, return_dict=True)["loss"])
        model.reset_metrics()
        mean = _SMOOTHING * mean + (1 - _SMOOTHING) * value
        smoothed = mean / (1 - _SMOOTHING ** (len(losses) + 1))
        if not math.isfinite(smoothed) or (losses and smoothed > _LOST * min(losses)):
            break
        losses.append(smoothed)
    return RangeTest(tuple(map(float, rates[: len(losses)])), tuple(losses), suggested(rates, losses))


def suggested(rates: Any, losses: Any) -> float:
    """The rate of the steepest fall, at most a tenth of the rate of the lowest loss, rounded to two digits."""
    lowest = int(np.argmin(losses)) if len(losses) else 0
    if lowest < 2:
        return 1e-3
    falls = np.gradient(np.asarray(losses[: lowest + 1]), np.log(np.asarray(rates[: lowest + 1])))
    return float(f"{min(rates[int(np.argmin(falls))], rates[lowest] / _MARGIN):.1e}")
