"""How much each layer matters: what the quality loses when that layer alone is pruned, without training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import keras
import numpy as np

from tfbig.compression.native.clone import clone
from tfbig.compression.native.kernels import Kernel, compressible_kernels
from tfbig.measurement.masks import output_masks
from tfbig.measurement.measure import quality_on
from tfbig.measurement.quality import Metrics
from tfbig.measurement.samples import batches
from tfbig.measurement.subject import subject_of
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
    subject, masks = subject_of(twin), output_masks(twin)

    def merit() -> float:
        """The quality, negative where less is better."""
        found = quality_on(subject, data, metric, masks)
        assert found.value is not None
        return -found.value if less_is_better(found.name) else found.value

    whole = merit()
    by_layer: dict[str, list[Kernel]] = {}
    for kernel in compressible_kernels(twin):
        by_layer.setdefault(kernel.layer.name, []).append(kernel)
    if len(by_layer) < 2:
        return dict.fromkeys(by_layer, 0.0)
    losses = {}
    for name, kernels in by_layer.items():
        with _thinned(kernels):
            losses[name] = whole - merit()
    return dict(sorted(losses.items(), key=lambda item: -item[1]))


@contextmanager
def _thinned(kernels: list[Kernel]) -> Iterator[None]:
    """While open, the weights of smallest magnitude are zero."""
    before = [kernel.variable.numpy() for kernel in kernels]
    try:
        for kernel, value in zip(kernels, before, strict=True):
            threshold = np.quantile(np.abs(value), _SPARSITY)
            kernel.variable.assign(np.where(np.abs(value) > threshold, value, 0))
        yield
    finally:
        for kernel, value in zip(kernels, before, strict=True):
            kernel.variable.assign(value)
