"""What a search chooses about one technique of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import keras

from tfbig.compression.technique import Technique
from tfbig.errors import check_range
from tfbig.tuning import registry


class Choice:
    """One option of one technique; by default a share of what the model has, in (0, 1].

    Attributes:
        place: where the stage of the technique stands in a recipe, from 0.
        values: the usual ones, from the largest file to the smallest.
        unchanged: the value with which there is no such stage.
        technique: its class.
        option: of the technique, which takes the value.
        may_fail: whether a small value may be more than a model can give.
        rivals: how many of the last values may make the smallest file; with 1, each is smaller than those before it.
    """

    place: ClassVar[int]
    values: ClassVar[tuple]
    unchanged: ClassVar[Any] = 1.0
    technique: ClassVar[type[Technique]]
    option: ClassVar[str]
    may_fail: ClassVar[bool] = False
    rivals: ClassVar[int] = 1

    def checked(self, argument: str, value: Any) -> Any:
        """The value as it is searched; raises `InvalidArgument` if it is out of range."""
        check_range(argument, value, 0, 1, closed="right")
        return float(value)

    def size(self, value: Any) -> float:
        """A number that grows with the file."""
        return value

    def harm(self, value: Any) -> float:
        """What quality the value is likely to cost, beside others; 0 for `unchanged`."""
        raise NotImplementedError

    def options(self, value: Any, spared: Sequence[str]) -> Mapping[str, Any]:
        """The options of the technique; `spared` are names of layers that it should leave as they are."""
        return {self.option: value}

    def value_of(self, technique: Technique) -> Any:
        """The value that a technique comes nearest to; None if it is of another kind."""
        return getattr(technique, self.option) if isinstance(technique, self.technique) else None

    def check_model(self, model: keras.Model) -> None:
        """Raises `InvalidModel` or `InvalidArgument` if no value but `unchanged` is for the model."""


def choices() -> dict[str, Choice]:
    """All of them by name, in the order of their stages."""
    found = {name: registry[name].choice for name in registry.names()}
    return dict(sorted(found.items(), key=lambda item: item[1].place))
