"""`Preserve`: what earlier stages established stays while the model trains on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import keras

from tfbig.compression.native.clone import check_keras_model
from tfbig.compression.native.kernels import Kernel, compressible_kernels
from tfbig.compression.native.machine import Machine
from tfbig.compression.native.prepared import NativeTechnique, prepare
from tfbig.compression.native.preserving import Preserving, has_clusters, has_zeros


@dataclasses.dataclass(frozen=True)
class Preserve(NativeTechnique):
    """Keeps the zeros and the clusters of a model's weights while it is trained for something else.

    In the model: weights that are zero are masked; tensors with few distinct values move cluster by cluster.
    `Quantize` does this by itself, and `compress` does it in every stage behind one that prunes or clusters.

    Args:
        sparsity: keep zeros.
        clusters: keep clusters, in tensors with at most 256 distinct values and four times as many elements.
        found: filled in by `prepare`: the path of each tensor to keep -> whether it has clusters.

    Reference:
        The collaborative optimizations of the TensorFlow Model Optimization Toolkit (PQAT, CQAT, PCQAT).
    """

    name: ClassVar[str] = "preserve"

    sparsity: bool = True
    clusters: bool = True
    found: Mapping[str, bool] | None = None

    def prepare(self, model: keras.Model) -> keras.Model:
        """Returns a copy of `model` that keeps the zeros and clusters which its weights have now."""
        check_keras_model(model)
        kernels = compressible_kernels(model, min_size=1)
        found = {k.name: self.clusters and has_clusters(k) for k in kernels if self._has_structure(k)}
        return prepare(dataclasses.replace(self, found=found), model)

    def machine(self, model: keras.Model) -> Machine:
        found = self.found or {}
        kernels = [k for k in compressible_kernels(model, min_size=1) if k.name in found]
        return Preserving(kernels, clustered=[found[k.name] for k in kernels])

    def applies_to(self, model: keras.Model) -> bool:
        """Whether the model has zeros or clusters to keep."""
        return any(self._has_structure(kernel) for kernel in compressible_kernels(model, min_size=1))

    def _has_structure(self, kernel: Kernel) -> bool:
        return (self.sparsity and has_zeros(kernel)) or (self.clusters and has_clusters(kernel))
