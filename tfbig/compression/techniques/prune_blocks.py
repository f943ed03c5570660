"""Depth pruning: whole residual blocks are removed, and a shorter plain model is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import keras

from tfbig.compression.structure.blocks import Block, Residuals, Shortening, influence
from tfbig.compression.structure.dependency import NOMINAL_SIZE
from tfbig.compression.structure.graph import check_layers, check_names, flatten, require_graph
from tfbig.compression.structure.latency import check_latency_of, stopwatches
from tfbig.compression.technique import Technique
from tfbig.errors import InvalidArgument, InvalidModel, check_count, check_range

_SHARES = ("flops", "params", "latency")


@dataclasses.dataclass(frozen=True)
class PruneBlocks(Technique):
    """Removes whole residual blocks, so that fewer operations run one after another.

    `prepare` gives a new plain Keras 3 model in which the shortcut of each removed block stands where its sum was: the
    branch is gone, all other layers keep their weights. The blocks that turn what passes through them least go first.
    A block is an addition of two tensors of one shape, one of which is computed from the other: the residual blocks of
    ResNet, MobileNetV2, EfficientNet or ConvNeXt, the attention and the feed-forward half of a transformer's layer.
    `finish` changes nothing; train the model between stages as any other.

    Args:
        blocks: how many go, at least 1.
        flops: share of the floating-point operations to keep at most, in (0, 1]. Sizes that the model leaves open
            count as 224.
        params: share of the parameters to keep at most, in (0, 1].
        latency: share of the LiteRT file's latency to keep at most, in (0, 1], on one thread of this machine: the
            files of a few shorter models are timed in turns with the original's. Give one of `blocks`, `flops`,
            `params` and `latency`.
        latency_of: the file that is timed, "float32" or "int8".
        exclude: names of layers; blocks that contain one stay.
        importance_data: batches of (x, y) or of x, all of which are used, or an array of samples, or (x, y);
            `tfbig.compress` takes it from the training data. Not part of the configuration.

    Raises:
        InvalidArgument: an option is out of range, there is no data, or the goal cannot be met (the message names the
            nearest).
        InvalidModel: the model is subclassed or not built, or has no residual block.

    Reference: Men et al., "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect" (2024),
    https://arxiv.org/abs/2403.03853; Veit et al., "Residual Networks Behave Like Ensembles of Relatively Shallow
    Networks" (2016), https://arxiv.org/abs/1605.06431.
    """

    name: ClassVar[str] = "prune_blocks"

    blocks: int | None = None  # how many go
    flops: float | None = None  # share to keep
    params: float | None = None  # share to keep
    latency: float | None = None  # share to keep
    latency_of: str = "float32"
    exclude: tuple[str, ...] = ()
    importance_data: Any = dataclasses.field(default=None, repr=False, compare=False, metadata={"serialized": False})

    def __post_init__(self) -> None:
        if len([goal for goal in ("blocks", *_SHARES) if getattr(self, goal) is not None]) != 1:
            raise InvalidArgument(
                "PruneBlocks needs one of `blocks`, the number to remove, and `flops`, `params` and `latency`, the "
                f"share to keep in (0, 1]; received blocks={self.blocks!r}, flops={self.flops!r}, "
                f"params={self.params!r}, latency={self.latency!r}."
            )
        if self.blocks is None:
            check_range(self._share, getattr(self, self._share), 0, 1, closed="right")
        else:
            object.__setattr__(self, "blocks", check_count("blocks", self.blocks))
        check_latency_of(self.latency_of)
        object.__setattr__(self, "exclude", check_names("exclude", self.exclude))

    @property
    def needs_data(self) -> bool:
        return self.importance_data is None

    def informed(self, original: keras.Model, data: Any, loss: Any) -> PruneBlocks:
        return dataclasses.replace(self, importance_data=data) if self.needs_data else self

    def prepare(self, model: keras.Model) -> keras.Model:
        """Returns a new, shorter model; see the class."""
        return self.plan(model).apply(model)

    def plan(self, model: keras.Model) -> Shortening:
        """Chooses the blocks without building anything; see `Shortening`."""
        residuals = self._residuals(model)
        scores = influence(model, residuals.blocks, self.importance_data)
        ordered = residuals.removable(sorted(range(len(scores)), key=scores.__getitem__))
        return Shortening(self._chosen(model, residuals, ordered))

    def check_model(self, model: keras.Model) -> None:
        """Raises what `prepare` would raise, as far as that shows without data and without timing."""
        residuals = self._residuals(model)
        if self.latency is None:
            removable = residuals.removable(range(len(residuals.blocks)))
            self._chosen(model, residuals, removable)

    def _residuals(self, model: keras.Model) -> Residuals:
        require_graph(model, "PruneBlocks")
        check_layers("exclude", self.exclude, model)
        residuals = Residuals(flatten(model, unknown=NOMINAL_SIZE), self.exclude)
        if not residuals.blocks:
            raise InvalidModel(
                f"PruneBlocks finds no residual block to remove in '{model.name}': no addition of two tensors of one "
                "shape, one of which is computed from the other. Use PruneChannels, which narrows layers."
            )
        return residuals

    def _chosen(self, model: keras.Model, residuals: Residuals, ordered: Sequence[Block]) -> tuple[Block, ...]:
        if self.blocks is not None:
            if self.blocks > len(ordered):
                raise InvalidArgument(
                    f"`blocks`={self.blocks} cannot be met for '{model.name}': it has {len(ordered)} residual blocks "
                    f"that can be removed. Ask for blocks={len(ordered)} or fewer."
                )
            return tuple(ordered[: self.blocks])
        if self.latency is not None:
            with stopwatches[self.latency_of].shares(model) as latency_of:
                return self._fewest(model, ordered, lambda removed: latency_of(Shortening(removed).apply(model)))
        cost = residuals.flops if self.flops is not None else residuals.parameters
        whole = cost()
        return self._fewest(model, ordered, lambda removed: cost(removed) / whole)

    def _fewest(
        self, model: keras.Model, ordered: Sequence[Block], share: Callable[[tuple[Block, ...]], float]
    ) -> tuple[Block, ...]:
        """The shortest beginning of `ordered` without which the share is at most the goal, found by halving."""
        goal, low, high = getattr(self, self._share), 0, len(ordered)
        smallest = share(tuple(ordered))
        if smallest > goal:
            nearest = f"{min(1.0, smallest + 0.001):.3f}"
            raise InvalidArgument(
                f"`{self._share}`={goal:g} cannot be met for '{model.name}': without all of its {len(ordered)} "
                f"residual blocks that can be removed the share is {smallest:.3f}. Ask for {self._share}={nearest} or "
                "more, or use PruneChannels as well."
            )
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if share(tuple(ordered[:middle])) <= goal else (middle + 1, high)
        return tuple(ordered[:high])

    @property
    def _share(self) -> str:
        return next(name for name in _SHARES if getattr(self, name) is not None)
