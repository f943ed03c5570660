"""Everything that training changes, as arrays, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.errors import InvalidFile


@dataclasses.dataclass(frozen=True)
class Position:
    """Where training stands: `batch` batches of `epoch` are done."""

    epoch: int = 0
    batch: int = 0


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """All variables that a training step may change, by a name that is the same in every run.

    Weights, seeds of random layers, the state of techniques, the optimizer's state with its step count and loss
    scale, and the running metrics.
    """
    optimizer = getattr(model, "optimizer", None)
    groups = {
        "model": model.variables,
        "optimizer": optimizer.variables if optimizer is not None else [],
        "metrics": model.metrics_variables,
    }
    return {f"{group}/{index}": variable for group, found in groups.items() for index, variable in enumerate(found)}


def capture(model: keras.Model) -> dict[str, np.ndarray]:
    """Copies of all variables."""
    found = variables(model)
    return {name: np.array(keras.ops.convert_to_numpy(variable)) for name, variable in found.items()}


def restore(model: keras.Model, arrays: Mapping[str, np.ndarray | tf.Tensor], where: str = "the checkpoint") -> None:
    """Puts `capture`'s arrays back.

    Raises:
        InvalidFile: they are those of another model or optimizer.
    """
    found = variables(model)
    shapes = {name: tuple(variable.shape) for name, variable in found.items()}
    saved = {name: tuple(array.shape) for name, array in arrays.items()}
    if shapes != saved:
        differing = sorted(name for name in {*shapes, *saved} if shapes.get(name) != saved.get(name))
        first = differing[0]
        raise InvalidFile(
            f"{where} belongs to another model or optimizer: {len(differing)} variables differ, first "
            f"{first} "
            f"(here {shapes.get(first)}, there {saved.get(first)}). Train the same model, or choose another "
            "folder."
        )
    for name, variable in found.items():
        variable.assign(arrays[name])


# What these callbacks remember from one epoch to the next; `on_train_begin` forgets it.
_REMEMBERED: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("wait", "stopped_epoch", "best", "best_epoch", "best_weights"),
    keras.callbacks.ReduceLROnPlateau: ("wait", "best", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best",),
}


def remembered(callbacks: list[keras.callbacks.Callback]) -> list[dict[str, Any]]:
    """The memory of each callback that has one, in order."""
    having = [callback for callback in callbacks if _names(callback)]
    return [{name: getattr(callback, name, None) for name in _names(callback)} for callback in having]


def remind(callbacks: list[keras.callbacks.Callback], memories: list[dict[str, Any]]) -> None:
    """Gives callbacks their memory back."""
    having = [callback for callback in callbacks if _names(callback)]
    for callback, memory in zip(having, memories, strict=False):
        for name in _names(callback):
            if name in memory:
                setattr(callback, name, memory[name])


def _names(callback: keras.callbacks.Callback) -> tuple[str, ...]:
    return next((names for kind, names in _REMEMBERED.items() if isinstance(callback, kind)), ())
