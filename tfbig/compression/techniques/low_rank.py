"""Low-rank factorization: a layer becomes two or three smaller ones whose product is nearly the same."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import keras

from tfbig.compression.structure.dependency import NOMINAL_SIZE
from tfbig.compression.structure.factorization import Factorization, candidates, cheapest, decompose_all, of_flops
from tfbig.compression.structure.factors import Factoring
from tfbig.compression.structure.graph import Graph, check_layers, check_names, flatten, require_graph
from tfbig.compression.technique import Technique
from tfbig.errors import InvalidArgument, InvalidModel, check_range


@dataclasses.dataclass(frozen=True)
class LowRank(Technique):
    """Writes weight matrices as products of smaller ones, with fewer parameters and operations.

    `prepare` gives a new plain Keras 3 model: a Dense layer becomes two by truncated singular value
    decomposition; a convolution becomes two or three by the singular values of its outputs, of its columns
    and rows, or by Tucker's decomposition, whichever costs least; an Embedding becomes a narrower one and a
    Dense layer. The last of them has the name, the bias and the activation of the original, the others are
    called `<name>_factor`. A layer is left as it is unless fewer parameters and fewer operations result (an
    Embedding: fewer parameters). The squared error of a kernel is the sum of the squared singular values that
    are dropped. `finish` changes nothing.

    Args:
        rank: share of the full rank to keep, in (0, 1].
        energy: share of the squared singular values to keep in each layer, in (0, 1].
        flops: share of the model's floating-point operations to keep, in (0, 1]; all layers then keep the
            same share of energy, as large as the goal allows. Embeddings stay. Sizes that the model leaves
            open count as 224. Give one of `rank`, `energy` and `flops`.
        exclude: names of layers that stay as they are.

    Raises:
        InvalidArgument: an option is out of range, or the goal cannot be met (the message names the nearest).
        InvalidModel: the model is subclassed or not built, or nothing in it can be factored usefully.

    Reference: Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile
        Applications" (2016), https://arxiv.org/abs/1511.06530; Jaderberg et al. (2014),
        https://arxiv.org/abs/1405.3866.
    """

    name: ClassVar[str] = "low_rank"

    rank: float | None = None  # share of full rank
    energy: float | None = None  # share of squared singular values
    flops: float | None = None  # share to keep
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        goals = {"rank": self.rank, "energy": self.energy, "flops": self.flops}
        given = {name: value for name, value in goals.items() if value is not None}
        if len(given) != 1:
            raise InvalidArgument(
                f"LowRank needs one of `rank`, `energy` and `flops`, each a share in (0, 1]; received "
                f"{given or 'none'}."
            )
        for name, value in given.items():
            check_range(name, value, 0, 1, closed="right")
        object.__setattr__(self, "exclude", check_names("exclude", self.exclude))

    def prepare(self, model: keras.Model) -> keras.Model:
        """Returns a new model with factored layers; see the class."""
        return self.plan(model).apply(model)

    def plan(self, model: keras.Model) -> Factorization:
        """Chooses ways and ranks without building anything; see `Factorization`."""
        require_graph(model, "LowRank")
        check_layers("exclude", self.exclude, model)
        graph = flatten(model, unknown=NOMINAL_SIZE)
        layers = candidates(graph, self.exclude)
        if self.flops is not None:
            factorization = self._within_flops(model, graph, layers, self.flops)
        elif self.energy is not None:
            energy = self.energy
            decompose_all(layers)
            factorization = cheapest(layers, lambda way: way.ranks_of_energy(energy))
        else:
            share = self.rank or 0.0
            factorization = cheapest(layers, lambda way: way.ranks_of_share(share))
        if not factorization.choices:
            raise self._nothing(model, len(layers))
        return factorization

    def _within_flops(
        self, model: keras.Model, graph: Graph, layers: list[list[Factoring]], share: float
    ) -> Factorization:
        factorization, smallest = of_flops(graph, layers, share)
        if layers and smallest > share:
            raise InvalidArgument(
                f"`flops`={share:g} cannot be met for '{model.name}': at rank 1 everywhere the smallest share "
                f"is {smallest:.3f}. Ask for flops={min(1.0, smallest + 0.001):.3f} or more."
            )
        return factorization

    def _nothing(self, model: keras.Model, count: int) -> InvalidModel:
        if not count:
            return InvalidModel(
                f"LowRank finds nothing to factor in '{model.name}': it takes Dense, Embedding and ungrouped "
                f"Conv1D, Conv2D and Conv3D layers, and the model has none."
            )
        goal = next(f"{name}={v:g}" for name in ("rank", "energy", "flops") if (v := getattr(self, name)) is not None)
        return InvalidModel(
            f"LowRank({goal}) finds nothing to factor usefully in '{model.name}': none of its {count} Dense, "
            f"convolution and Embedding layers would have fewer parameters and operations. Ask for a smaller "
            "share."
        )
