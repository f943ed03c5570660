"""The latency of models beside that of one model: `shares_of`."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import keras

from tfbig.measurement.compare import compare


@contextlib.contextmanager
def shares_of(
    model: keras.Model, write: Callable[[keras.Model, Path], Path]
) -> Iterator[Callable[[keras.Model], float]]:
    """A function that gives a model's latency as a share of that of `model`.

    Their LiteRT files are timed in turns, on one thread of this machine.

    Args:
        write: writes a model as the file to be timed.
    """
    with tempfile.TemporaryDirectory(prefix="tfbig-latency-") as folder:
        file = write(model, Path(folder) / "model.tflite")
        yield lambda other: 1 / compare(file, write(other, Path(folder) / "other.tflite")).speedup
