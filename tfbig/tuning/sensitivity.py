"""How much each layer matters: what the quality loses when that layer alone is pruned, without training."""

from __future__ import annotations

from itertools import islice
from typing import Any

import keras
import numpy as np

from tfbig.compression.native.clone import clone
from tfbig.compression.native.kernels import Kernel, compressible_kernels
from tfbig.errors import InvalidData
from tfbig.measurement.quality import Metric, quality_of
from tfbig.measurement.samples import batches, leaves
from tfbig.report.figures import less_is_better

_SPARSITY = 0.8
_BATCHES = 8  # of the validation split: the order of the layers needs no more


def sensitivity(model: keras.Model, validation: Any, metric: str | Metric | None = None) -> dict[str, float]:
    """The loss of quality by layer, the most sensitive layer first.

    In a copy of the model, the weights of one layer of smallest magnitude, 80 % of them, become zero at a time.

    Args:
        validation: batches of (x, y), of which the first few are used.
        metric: the quality, as for `tfbig.measure`.

    Reference:
        Li et al., "Pruning Filters for Efficient ConvNets" (2017), https://arxiv.org/abs/1608.08710, section 3.2.
    """
    twin = clone(model)
    data = list(islice(batches(validation), _BATCHES))
    whole = _merit(twin, data, metric)
    by_layer: dict[str, list[Kernel]] = {}
    for kernel in compressible_kernels(twin):
        by_layer.setdefault(kernel.layer.name, []).append(kernel)
    if len(by_layer) < 2:
        return dict.fromkeys(by_layer, 0.0)
    losses = {name: whole - _merit_without(twin, data, metric, kernels) for name, kernels in by_layer.items()}
    return dict(sorted(losses.items(), key=lambda item: -item[1]))


def _merit_without(model: keras.Model, data: list, metric: str | Metric | None, kernels: list[Kernel]) -> float:
    before = [kernel.variable.numpy() for kernel in kernels]
    try:
        for kernel, value in zip(kernels, before, strict=True):
            threshold = np.quantile(np.abs(value), _SPARSITY)
            kernel.variable.assign(np.where(np.abs(value) > threshold, value, 0))
        return _merit(model, data, metric)
    finally:
        for kernel, value in zip(kernels, before, strict=True):
            kernel.variable.assign(value)


def _merit(model: keras.Model, data: list, metric: str | Metric | None) -> float:
    """The mean quality over the outputs, negative where less is better."""
    outputs = [leaves(model.predict_on_batch(x)) for x, _ in data]
    labels = [leaves(y) for _, y in data]
    columns = [np.concatenate(column) for column in zip(*labels, strict=True)]
    results = [np.concatenate(column) for column in zip(*outputs, strict=True)]
    if len(columns) != len(results):
        raise InvalidData(
            f"The model has {len(results)} outputs, the data has labels for {len(columns)}. Give one for each."
        )
    found = [quality_of(y, output, metric) for y, output in zip(columns, results, strict=True)]
    return float(np.mean([-value if less_is_better(name) else value for name, value in found]))
