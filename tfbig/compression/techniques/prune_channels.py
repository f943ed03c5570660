"""Channel pruning: whole channels, heads and hidden units are removed, and a smaller plain model is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import keras

from tfbig.compression.structure.allocation import Allocation, allocate, groups, multiplications, parameters
from tfbig.compression.structure.cut import Cut
from tfbig.compression.structure.dependency import Dependencies, analyse
from tfbig.compression.structure.graph import check_layers, check_names, require_graph
from tfbig.compression.structure.importance import CRITERIA, OF_THE_LAYER, importance
from tfbig.compression.structure.latency import Timed, check_latency_of, slowest_within, stopwatches
from tfbig.compression.technique import Technique, check_choice
from tfbig.errors import InvalidArgument, InvalidModel, check_count, check_range

Criterion = Literal["l1", "l2", "batch_norm", "taylor"]
_SHOWN = 5  # names in a message


@dataclasses.dataclass(frozen=True)
class PruneChannels(Technique):
    """Removes whole channels, so that the model does less work on any device.

    `prepare` gives a new plain Keras 3 model of the same layers, narrower, with the weights of the channels that stay:
    it equals the original with the same channels masked to zero, up to rounding. Channels that a graph ties together
    (residual additions, depthwise and grouped convolutions, attention heads, ...) go together; those that a layer mixes
    in a way that could not be undone (LayerNormalization, softmax, an unknown layer) stay. The inputs and the outputs
    keep their shapes. `finish` changes nothing; train the model between stages as any other.

    Args:
        flops: share of the floating-point operations to keep, in (0, 1]; the result is at most that, and as near as
            whole steps allow. Sizes that the model leaves open count as 224.
        params: share of the parameters to keep, in (0, 1].
        latency: share of the LiteRT file's latency to keep, in (0, 1], on one thread of this machine: the files of a
            few smaller models are timed in turns with the original's, so that the widths depend on the machine. Give
            one of `flops`, `params` and `latency`.
        latency_of: the file that is timed, "float32" or "int8".
        importance: what says which channels matter least: "l1", "l2" (the filters that create the channel),
            "batch_norm" (its scale), "taylor" (its first-order effect on the loss).
        allocation: "global" removes the least important channels of the whole model (norms compared within their
            group); "uniform" narrows all layers alike.
        floor: share of every group's channels that stays, in [0, 1]; at least one step of `round_to` always does.
        round_to: widths are kept at multiples of this many channels; a layer of fewer is not touched.
        exclude: names of layers that stay as they are.
        loss: the loss for "taylor", by default the compiled model's, or that of `tfbig.compress`.
        importance_data: batches of (x, y) for "taylor"; all are used. `tfbig.compress` takes them from the training
            data. Not part of the configuration.

    Raises:
        InvalidArgument: an option is out of range, or the goal cannot be met (the message names the nearest).
        InvalidModel: the model is subclassed or not built, or layers that are not understood stand in the way.

    Reference: Li et al., "Pruning Filters for Efficient ConvNets" (2017), https://arxiv.org/abs/1608.08710;
    Fang et al., "DepGraph: Towards Any Structural Pruning" (2023), https://arxiv.org/abs/2301.12900.
    """

    name: ClassVar[str] = "prune_channels"

    flops: float | None = None  # share to keep
    params: float | None = None  # share to keep
    latency: float | None = None  # share to keep
    latency_of: str = "float32"
    importance: Criterion = "l1"
    allocation: Literal["global", "uniform"] = "global"
    floor: float = 0.1  # share of a group's channels
    round_to: int = 8  # channels
    exclude: tuple[str, ...] = ()
    loss: str | None = None
    importance_data: Any = dataclasses.field(default=None, repr=False, compare=False, metadata={"serialized": False})

    def __post_init__(self) -> None:
        if len([goal for goal in (self.flops, self.params, self.latency) if goal is not None]) != 1:
            raise InvalidArgument(
                f"PruneChannels needs one of `flops`, `params` and `latency`, the share to keep in (0, 1]; received "
                f"flops={self.flops!r}, params={self.params!r}, latency={self.latency!r}."
            )
        check_range(self._goal_name, self._goal, 0, 1, closed="right")
        check_latency_of(self.latency_of)
        check_choice("importance", self.importance, CRITERIA)
        check_choice("allocation", self.allocation, ("global", "uniform"))
        check_range("floor", self.floor, 0, 1)
        object.__setattr__(self, "round_to", check_count("round_to", self.round_to))
        object.__setattr__(self, "exclude", check_names("exclude", self.exclude))

    @property
    def needs_data(self) -> bool:
        return self.importance == "taylor" and self.importance_data is None

    def informed(self, original: keras.Model, data: Any, loss: Any) -> PruneChannels:
        given = {"importance_data": data, "loss": self.loss if self.loss is not None else loss}
        return dataclasses.replace(self, **given) if self.needs_data else self

    def prepare(self, model: keras.Model) -> keras.Model:
        """Returns a new, narrower model; see the class."""
        return self.plan(model).apply(model)

    def plan(self, model: keras.Model) -> Cut:
        """Chooses the channels without building anything; see `Cut`."""
        require_graph(model, "PruneChannels")
        check_layers("exclude", self.exclude, model)
        dependencies = analyse(model, exclude=self.exclude)
        scores = importance(dependencies, self.importance, model=model, data=self.importance_data, loss=self.loss)
        relative = self.importance in OF_THE_LAYER
        found = groups(dependencies, scores, floor=self.floor, round_to=self.round_to, relative=relative)
        terms = parameters(model) if self.params is not None else multiplications(dependencies)
        if not any(term.size for term in terms):
            raise InvalidModel(
                f"PruneChannels finds no {'parameters' if self.params is not None else 'FLOPs'} in '{model.name}': "
                f"it has no layer that multiplies by weights. There is nothing to prune."
            )

        def allocated(goal: float) -> Allocation:
            return allocate(dependencies, found, terms, goal=goal, uniform=self.allocation == "uniform")

        if self.latency is not None:
            return self._timed(model, dependencies, allocated)
        result = allocated(self._goal)
        if result.reached > self._goal:
            raise self._unreachable(model, dependencies, result.smallest)
        return Cut(dependencies, result.keep)

    def _timed(self, model: keras.Model, dependencies: Dependencies, allocated: Callable[[float], Allocation]) -> Cut:
        """The largest model whose file keeps the latency at the goal."""
        with stopwatches[self.latency_of].shares(model) as latency_of:

            def timed(flops: float) -> Timed[Cut]:
                result = allocated(flops)
                cut = Cut(dependencies, result.keep)
                return Timed(cut, result.reached, latency_of(cut.apply(model)))

            found = slowest_within(self._goal, timed)
        if found.latency > self._goal:
            raise self._unreachable(model, dependencies, found.latency)
        return found.subject

    def in_steps(self, count: int) -> list[PruneChannels]:
        """The same goal in `count` equal steps, for stages with training between them.

        Each step keeps the same share of what the step before left; the last one reaches the goal.
        """
        check_count("count", count)
        share = {self._goal_name: self._goal ** (1 / count)}
        return [dataclasses.replace(self, **share) for _ in range(count)]

    @property
    def _goal_name(self) -> str:
        return next(name for name in ("flops", "params", "latency") if getattr(self, name) is not None)

    @property
    def _goal(self) -> float:
        return getattr(self, self._goal_name)  # type: ignore[no-any-return]

    def _unreachable(
        self, model: keras.Model, dependencies: Dependencies, smallest: float
    ) -> InvalidArgument | InvalidModel:
        goal, nearest = self._goal_name, f"{min(1.0, smallest + 0.001):.3f}"
        reason = (
            f"`{goal}`={self._goal:g} cannot be met for '{model.name}': with floor={self.floor:g} and "
            f"round_to={self.round_to} the smallest share that can be reached is {smallest:.3f}."
        )
        if dependencies.not_understood:
            return InvalidModel(
                f"{reason} Layers that are not understood, so that all channels around them stay: "
                f"{', '.join(dependencies.not_understood)}. Ask for {goal}={nearest}, or replace these layers."
            )
        if dependencies.keepers:
            reason += f" Channels stay where each depends on all others: {_some(dependencies.keepers)}."
        if smallest >= 1:
            step = "Lower `floor` or `round_to`, or use LowRank, Prune or Quantize, which leave widths as they are."
            return InvalidArgument(f"{reason} {step}")
        return InvalidArgument(f"{reason} Ask for {goal}={nearest} or more, or lower `floor` or `round_to`.")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
