"""The contract of every compression technique: a frozen dataclass with `prepare`, `callbacks` and `finish`."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

import keras

from tfbig.errors import InvalidArgument, unknown

Engine = Literal["auto", "native", "tfmot"]


@dataclasses.dataclass(frozen=True)
class Technique:
    """One way to make a model smaller or faster.

    A technique never trains: `prepare` gives a model to `compile` and `fit` like any other, `finish` gives the
    compressed model back. Neither touches the model it was given. Fields are the options; they are checked when the
    technique is made, and they are all that its JSON holds.
    """

    name: ClassVar[str]
    wraps: ClassVar[bool] = False  # Whether `prepare` puts a model around the given one: then it is prepared last.

    def prepare(self, model: keras.Model) -> keras.Model:
        """Returns a new model, ready to be compiled and trained under this technique."""
        return model

    @property
    def needs_data(self) -> bool:
        """Whether `prepare` looks at samples that are still to be given, by `informed`."""
        return False

    def informed(self, original: keras.Model, data: Any, loss: Any) -> Technique:
        """This technique with what its options leave open taken from the run that it is part of.

        Args:
            original: the model before the first stage.
            data: some batches of (x, y) of the training data; None unless a technique of the recipe `needs_data`.
            loss: of the training.
        """
        return self

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Returns the callbacks that `fit` needs; techniques of the native engine need none."""
        return []

    def finish(self, model: keras.Model) -> keras.Model:
        """Returns the compressed model after training, with the technique's own machinery removed."""
        return model

    def verify(self, model: keras.Model) -> None:
        """Raises `InvariantBroken` unless the finished `model` has what the technique promises."""

    def get_config(self) -> dict[str, Any]:
        """The options that differ from their defaults, as plain JSON values."""
        changed = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata.get("serialized", True) and value != field.default:
                changed[field.name] = list(value) if isinstance(value, tuple) else value
        return changed

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Technique:
        """Builds the technique from `get_config`'s dictionary.

        Raises:
            InvalidArgument: an option that the technique does not have; the message names the nearest one.
        """
        fields = {field.name for field in dataclasses.fields(cls)}
        for option in config:
            if option not in fields:
                raise unknown(f"option of {cls.name}", option, fields)
        return cls(**config)


def check_choice(name: str, value: object, choices: tuple) -> None:
    """Raises `InvalidArgument` unless `value` is one of `choices`."""
    if value not in choices:
        expected = ", ".join(repr(choice) for choice in choices)
        raise InvalidArgument(f"`{name}` must be one of {expected}, received {value!r}.")
