"""The LiteRT file in 8-bit integers; its ranges are random, for they do not change how fast it is."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import keras

from tfbig.compression.techniques.quantize import Quantize
from tfbig.exporters.export import export
from tfbig.exporters.inference_graph import call_arguments, probe_inputs
from tfbig.measurement.stopwatch import shares_of


def shares(model: keras.Model) -> AbstractContextManager[Callable[[keras.Model], float]]:
    """A function that gives a model's latency as a share of that of `model`."""
    return shares_of(model, _write)


def _write(model: keras.Model, path: Path) -> Path:
    technique = Quantize("int8")
    prepared = technique.prepare(model)
    args, kwargs = call_arguments(model, probe_inputs(model))
    prepared(*args, **{**kwargs, "training": True})
    return export(technique.finish(prepared), path)
