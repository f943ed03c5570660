"""A recipe without its training: the bytes, the latency and the operations that it will come to."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfbig.compression.native.clone import clone
from tfbig.compression.recipe import Recipe
from tfbig.compression.structure.flops import macs
from tfbig.errors import InvalidArgument, InvalidModel
from tfbig.exporters.export import export
from tfbig.measurement.litert import time_litert
from tfbig.measurement.size import gzip_bytes, raw_bytes
from tfbig.pipeline.compress import in_order
from tfbig.tuning.budget import Figures

_RUNS = 30
_BIAS = 0.05  # about as large as training makes them, so that gzip finds as little to pack in them


def rehearse(model: keras.Model, recipe: Recipe, inputs: Any, *, latency: bool) -> Figures:
    """Prepares, finishes and exports every stage on `model` itself, untrained, and measures the file.

    Widths, ranks, zeros, clusters and integer types do not depend on training, so the file is as large and as fast as
    the trained one; only where the zeros stand differs, by which a sparse or gzipped file differs a little.

    Args:
        inputs: a batch that shows the ranges of activations.
        latency: whether to time the file.

    Raises:
        TfbigError: what the trial itself would raise, but in seconds.
    """
    model = _with_biases(model)
    for stage in recipe.stages:
        techniques = in_order(tuple(t for t in stage if t.name != "distill"), model)
        techniques = [technique.informed(model, [(inputs, None)], None) for technique in techniques]
        for technique in techniques:
            model = technique.prepare(model)
        if any(technique.name == "quantize" for technique in techniques):
            model(inputs, training=True)
        for technique in reversed(techniques):
            model = technique.finish(model)
    with tempfile.TemporaryDirectory(prefix="tfbig-rehearsal-") as folder:
        file = export(model, Path(folder) / "model.tflite")
        speed = time_litert(file, runs=_RUNS).median_ms if latency else None
        return Figures(None, "", raw_bytes(file), gzip_bytes(file), speed, macs_of(model))


def _with_biases(model: keras.Model) -> keras.Model:
    """A copy without biases that are zero: the converter leaves them out, and training would not let them be zero."""
    twin, random = clone(model), np.random.default_rng(0)
    for variable in twin.trainable_variables:
        if len(variable.shape) == 1 and not keras.ops.any(variable):
            variable.assign(random.uniform(-_BIAS, _BIAS, variable.shape))
    return twin


def macs_of(model: keras.Model) -> int | None:
    """The multiply-accumulates of one sample; None for a model whose graph is not known."""
    try:
        return macs(model)
    except (InvalidModel, InvalidArgument):  # subclassed; a size is open
        return None
