"""The LiteRT file in float."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import keras

from tfbig.exporters.export import export
from tfbig.measurement.stopwatch import shares_of


def shares(model: keras.Model) -> AbstractContextManager[Callable[[keras.Model], float]]:
    """A function that gives a model's latency as a share of that of `model`."""
    return shares_of(model, export)
