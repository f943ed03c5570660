"""`Preserve`: what earlier stages established stays while the model trains on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
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
        clusters: keep clusters, in tensors with at most 256 distinct values.
        found: filled in by `prepare`, for each tensor in the order of the layers: whether it has clusters to keep; None
            to leave it alone.

    Reference:
        The collaborative optimizations of the TensorFlow Model Optimization Toolkit (PQAT, CQAT, PCQAT).
    """

    name: ClassVar[str] = "preserve"

    sparsity: bool = True
    clusters: bool = True
    found: Sequence[bool | None] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "found", tuple(self.found))

    def prepare(self, model: keras.Model) -> keras.Model:
        """Returns a copy of `model` that keeps the zeros and clusters which its weights have now."""
        check_keras_model(model)
        kernels = compressible_kernels(model, min_size=1)
        # By number, not by name: subclassed models get new names when they are built again.
        found = [(self.clusters and has_clusters(k)) if self._has_structure(k) else None for k in kernels]
        return prepare(dataclasses.replace(self, found=found), model)

    def machine(self, model: keras.Model) -> Machine:
        kernels = compressible_kernels(model, min_size=1)
        held = [(k, clusters) for k, clusters in zip(kernels, self.found, strict=True) if clusters is not None]
        return Preserving([k for k, _ in held], clustered=[clusters for _, clusters in held])

    def applies_to(self, model: keras.Model) -> bool:
        """Whether the model has zeros or clusters to keep."""
        return any(self._has_structure(kernel) for kernel in compressible_kernels(model, min_size=1))

    def _has_structure(self, kernel: Kernel) -> bool:
        return (self.sparsity and has_zeros(kernel)) or (self.clusters and has_clusters(kernel))
