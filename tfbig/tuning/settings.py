"""The trainings that `tune` chooses from: arguments of the builder, optimizer, rate, schedule, batches, precision."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras_tuner
import tensorflow as tf

from tfbig.compression.tfmot.toolkit import is_tf_keras
from tfbig.data.augmentation import augmentation
from tfbig.data.dataset import Data
from tfbig.errors import InvalidArgument, check_range, unknown
from tfbig.models import arguments_of, build
from tfbig.training.optimizer import optimizer
from tfbig.training.precision import check_precision
from tfbig.training.schedule import SCHEDULES
from tfbig.tuning.as_keras3 import as_keras3
from tfbig.tuning.space import digest

TRAINING: dict[str, tuple] = {
    "optimizer": ("adam", "adamw", "momentum", "rmsprop"),
    "rate": (0.3, 1.0, 3.0),  # times the rate that the range test suggests for the optimizer
    "schedule": ("constant", "cosine"),
    "warmup": (0.0,),
    "batch_size": (0,),  # 0: as the data comes
    "precision": ("float32",),
    "augmentation": (False,),
}
Build = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One training: its values by name, of which `varied` are choices."""

    values: Mapping[str, Any]
    epochs: int
    varied: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Equal for equal settings."""
        return digest(dict(self.values), self.epochs)

    def __str__(self) -> str:
        return ", ".join(f"{name}={self.values[name]}" for name in self.varied or self.values)


class SettingSpace(keras_tuner.HyperModel):
    """All settings of the choices.

    Args:
        builder: the name of one of tfbig's builders, or a function that makes a model.
        given: choices by name, in place of the usual ones; names that are not of the training are the builder's
            arguments.

    Raises:
        InvalidArgument: a name that neither the training nor the builder has; a value out of range.
    """

    def __init__(self, builder: str | Build, *, epochs: int, given: Mapping[str, Any] | None = None):
        super().__init__()
        self.builder, self.epochs = builder, epochs
        asked = {name: _several(name, value) for name, value in (given or {}).items()}
        own = [name for name in asked if name not in TRAINING]
        _check_own(builder, own)
        self.choices = {**TRAINING, **asked}
        for name in TRAINING:
            for value in self.choices[name]:
                _check(name, value)
        self.varied = tuple(name for name, choices in self.choices.items() if len(choices) > 1)

    def build(self, hp: keras_tuner.HyperParameters) -> Setting:
        """The setting of a set of values; declares the choices on the way."""
        values = {}
        for name, choices in self.choices.items():
            values[name] = choices[0] if len(choices) == 1 else choices[hp.Choice(name, list(range(len(choices))))]
        return self.setting(values)

    def plan(self, values: Mapping[str, Any]) -> Setting:
        """The setting of KerasTuner's values, which are positions in the choices."""
        return self.setting({name: choices[values.get(name, 0)] for name, choices in self.choices.items()})

    def setting(self, values: Mapping[str, Any]) -> Setting:
        """The setting of the choices themselves."""
        return Setting(values, self.epochs, self.varied)

    def model(self, values: Mapping[str, Any], data: Data) -> Any:
        """A new model of a setting, of Keras 3; a builder of tfbig also gets the shape of the data."""
        own = {name: value for name, value in values.items() if name not in TRAINING}
        if callable(self.builder):
            model = self.builder(**own)
            if not callable(model) or not hasattr(model, "weights"):
                raise InvalidArgument(
                    f"`builder` must return a Keras model, received {type(model).__name__}. Its arguments are the "
                    "choices of `space`, such as def build(units=16): ... with space={'units': [16, 32]}."
                )
            return as_keras3(model) if is_tf_keras(model) else model
        shape = {"input_shape": data.spec.input_shape, "classes": data.spec.classes}
        known = arguments_of(self.builder)
        return build(self.builder, **{name: v for name, v in shape.items() if name in known and v is not None} | own)


def prepared(data: Data, values: Mapping[str, Any], seed: int) -> Data:
    """The data of a setting: other batches, and images that change."""
    train = data.train
    if size := values["batch_size"]:
        count = data.spec.samples.get("train") or sum(len(tf.nest.flatten(batch)[0]) for batch in train)
        train = train.rebatch(size).apply(tf.data.experimental.assert_cardinality(math.ceil(count / size)))
    if values["augmentation"]:
        layers = augmentation(shift=0.1, zoom=0.1, seed=seed)
        train = train.map(lambda x, *rest: (layers(x, training=True), *rest))
    return dataclasses.replace(data, train=train)


def _check_own(builder: str | Build, names: Sequence[str]) -> None:
    """Raises `InvalidArgument` for a builder that does not exist, or an argument that it does not have."""
    known = list(inspect.signature(builder).parameters) if callable(builder) else arguments_of(builder)
    for name in names:
        if name not in known:
            raise unknown("choice in `space`:", name, [*TRAINING, *known])


def _check(name: str, value: Any) -> None:
    if name == "optimizer":
        optimizer(value)
    elif name == "precision":
        check_precision(value)
    elif name == "schedule" and value not in SCHEDULES:
        raise unknown("schedule", value, SCHEDULES)
    elif name == "rate":
        check_range("space['rate']", value, 0, 1000, closed="neither")
    elif name == "warmup":
        check_range("space['warmup']", value, 0, 1, closed="left")
    elif name == "batch_size" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise InvalidArgument(
            f"`space['batch_size']` must be a whole number, 0 for the data's own, received {value!r}."
        )
    elif name == "augmentation" and not isinstance(value, bool):
        raise InvalidArgument(f"`space['augmentation']` must be True or False, received {value!r}.")


def _several(name: str, value: Any) -> tuple:
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
    if not values:
        raise InvalidArgument(f"`space['{name}']` must hold at least one value, received {value!r}.")
    return values
