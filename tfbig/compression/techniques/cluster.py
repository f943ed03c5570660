"""`Cluster`: the weights of each layer share a few values."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar, Literal

import keras
import numpy as np

from tfbig.compression.native.clone import check_keras_model
from tfbig.compression.native.clustering import Clustering
from tfbig.compression.native.kernels import TINY, Kernel, check_patterns, compressible_kernels, matches
from tfbig.compression.native.machine import Machine
from tfbig.compression.native.prepared import Prepared, prepare
from tfbig.compression.native.preserving import has_zeros
from tfbig.compression.technique import Engine, check_choice
from tfbig.compression.tfmot.engine import TwoEngines
from tfbig.errors import InvalidArgument, InvalidModel, InvariantBroken, check_range


@dataclasses.dataclass(frozen=True)
class Cluster(TwoEngines):
    """Replaces the weights of each tensor by a few shared values, which train with the model.

    In the model: every compressible weight tensor computes with the nearest of its centroids. `finish` writes the
    centroids into the weights: a tensor then has at most `clusters` distinct values, and compresses accordingly.

    Args:
        clusters: number of distinct values in a tensor, 2 to 256.
        initialization: of the centroids: "kmeans++", "density" (quantiles), "linear" or "random".
        per_channel: give each output channel `clusters` values of its own.
        preserve_sparsity: zeros stay zero, and zero is one of the clusters. None: if the model has zeros, or is being
            pruned.
        entropy_penalty: 0 or more; above 0 clusters that many weights share draw in more of them, so that a file of the
            same number of values compresses better. In variances of a tensor's weights for each bit of the code that an
            assignment would get. 0.03 takes about a third off a gzipped integer file; above 0.05 quality suffers.
        layers: overrides: layer name, glob or layer type -> None to leave these layers alone.
        min_size: tensors with fewer elements are left alone.
        seed: for the random initialisations.
        engine: "native" for Keras 3 models, "tfmot" for TFMOT's own, "auto" to choose by the kind of model.

    Raises:
        InvalidArgument: an option outside its range; a pattern of `layers` that matches nothing.
        InvalidModel: the model has nothing to cluster.

    Reference:
        Han et al. 2016, "Deep Compression", https://arxiv.org/abs/1510.00149, section 3. The penalty: Chou, Lookabaugh
        and Gray 1989, "Entropy-constrained vector quantization", equation 5.
    """

    name: ClassVar[str] = "cluster"
    takes_away: ClassVar[bool] = True

    clusters: int = 16
    initialization: Literal["kmeans++", "density", "linear", "random"] = "kmeans++"
    per_channel: bool = False
    preserve_sparsity: bool | None = None
    entropy_penalty: float = 0.0
    layers: Mapping[str, None] | None = None
    min_size: int = TINY
    seed: int = 0
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.clusters, bool) or not isinstance(self.clusters, int) or not 2 <= self.clusters <= 256:
            raise InvalidArgument(f"`clusters` must be an int in [2, 256], received {self.clusters!r}.")
        check_choice("initialization", self.initialization, ("kmeans++", "density", "linear", "random"))
        check_choice("engine", self.engine, ("auto", "native", "tfmot"))
        check_range("entropy_penalty", self.entropy_penalty, 0, math.inf, closed="left")
        for pattern, value in (self.layers or {}).items():
            if value is not None:
                raise InvalidArgument(
                    f"`layers['{pattern}']` must be None, received {value!r}: it leaves the layer alone."
                )

    def prepare_natively(self, model: keras.Model) -> keras.Model:
        """Returns a copy of `model` whose weights are seen through centroids."""
        if self.preserve_sparsity is not None:
            return super().prepare_natively(model)
        check_keras_model(model)
        pruned = isinstance(model, Prepared) and any(t.name == "prune" for t in model.preparation.techniques)
        sparse = pruned or any(has_zeros(kernel) for kernel in compressible_kernels(model, min_size=self.min_size))
        return prepare(dataclasses.replace(self, preserve_sparsity=sparse), model)

    def machine(self, model: keras.Model) -> Machine:
        return Clustering(
            self._chosen(model),
            clusters=self.clusters,
            initialization=self.initialization,
            per_channel=self.per_channel,
            keep_zeros=bool(self.preserve_sparsity),
            entropy_penalty=self.entropy_penalty,
            seed=self.seed,
        )

    def verify_natively(self, model: keras.Model) -> None:
        """Raises `InvariantBroken` if a clustered tensor, or channel of it, has more than `clusters` values."""
        for kernel in self.reached(self._chosen(model), model):
            values = np.moveaxis(kernel.variable.numpy(), kernel.channel_axes, range(len(kernel.channel_axes)))
            channels = int(np.prod([kernel.shape[axis] for axis in kernel.channel_axes])) if self.per_channel else 1
            most = max(np.unique(row).size for row in values.reshape(channels, -1))
            if most > self.clusters:
                raise InvariantBroken(
                    f"'{kernel.name}' has {most} distinct values, but Cluster promised at most {self.clusters}. "
                    "Something wrote into the weights after Cluster; train later stages with tfbig.Preserve()."
                )

    def _chosen(self, model: keras.Model) -> list[Kernel]:
        kernels = compressible_kernels(model, min_size=self.min_size)
        check_patterns("layers", list(self.layers or {}), kernels)
        chosen = [k for k in kernels if not any(matches(pattern, k) for pattern in self.layers or {})]
        if not chosen:
            raise InvalidModel("`layers` leaves every layer alone, so there is nothing to cluster. Remove an override.")
        return chosen
