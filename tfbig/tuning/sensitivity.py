"""How much each layer matters: what the quality loses when that layer alone is pruned, without training."""

from __future__ import annotations

from itertools import islice
from typing import Any

import keras
import numpy as np

from tfbig.compression.native.clone import clone
from tfbig.compression.native.kernels import Kernel, compressible_kernels
from tfbig.measurement.measure import quality_on
from tfbig.measurement.quality import Metrics
from tfbig.measurement.samples import batches
from tfbig.measurement.subject import Subject, subject_of
from tfbig.report.figures import less_is_better

_SPARSITY = 0.8
_BATCHES = 8  # of the validation split: the order of the layers needs no more


def sensitivity(model: keras.Model, validation: Any, metric: Metrics = None) -> dict[str, float]:
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
    subject = subject_of(twin)
    whole = _merit(subject, data, metric)
    by_layer: dict[str, list[Kernel]] = {}
    for kernel in compressible_kernels(twin):
        by_layer.setdefault(kernel.layer.name, []).append(kernel)
    if len(by_layer) < 2:
        return dict.fromkeys(by_layer, 0.0)
    losses = {name: whole - _merit_without(subject, data, metric, kernels) for name, kernels in by_layer.items()}
    return dict(sorted(losses.items(), key=lambda item: -item[1]))


def _merit_without(subject: Subject, data: list, metric: Metrics, kernels: list[Kernel]) -> float:
    before = [kernel.variable.numpy() for kernel in kernels]
    try:
        for kernel, value in zip(kernels, before, strict=True):
            threshold = np.quantile(np.abs(value), _SPARSITY)
            kernel.variable.assign(np.where(np.abs(value) > threshold, value, 0))
        return _merit(subject, data, metric)
    finally:
        for kernel, value in zip(kernels, before, strict=True):
            kernel.variable.assign(value)


def _merit(subject: Subject, data: list, metric: Metrics) -> float:
    """The quality, negative where less is better."""
    found = quality_on(subject, data, metric)
    assert found.value is not None
    return -found.value if less_is_better(found.name) else found.value
