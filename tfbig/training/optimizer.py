"""Optimizers by name, with clipping, weight decay, averaging and accumulation."""

from __future__ import annotations

import inspect
from typing import Any

import keras

from tfbig.errors import check_count, check_range, unknown

_CLASSES = {
    "sgd": "SGD",
    "momentum": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "nadam": "Nadam",
    "adamax": "Adamax",
    "lion": "Lion",
    "lamb": "Lamb",
    "muon": "Muon",
    "adafactor": "Adafactor",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adadelta": "Adadelta",
    "ftrl": "Ftrl",
}


def optimizer(
    name: str,
    *,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule | None = None,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    ema: float | None = None,
    accumulate: int = 1,
) -> keras.optimizers.Optimizer:
    """Returns a new optimizer.

    Args:
        name: "sgd", "momentum" (SGD with 0.9), "adam", "adamw", "nadam", "adamax", "lion", "lamb", "muon",
            "adafactor", "rmsprop", "adagrad", "adadelta" or "ftrl".
        learning_rate: a number > 0 or a schedule; None for the optimizer's own default.
        weight_decay: decoupled weight decay, >= 0.
        clip_norm: scales all gradients together so that their joint norm is at most this, > 0.
        ema: averages the weights with this momentum in (0, 1); the average replaces them when training ends.
        accumulate: batches whose gradients are averaged into one step, >= 1. On a CPU `fit` takes up to four of them at
            a time, two in memory.

    Raises:
        InvalidArgument: an unknown name or a value out of range.
    """
    if str(name).lower() not in _CLASSES:
        raise unknown("optimizer", name, _CLASSES)
    check_options(clip_norm=clip_norm, weight_decay=weight_decay, ema=ema, accumulate=accumulate)
    made = getattr(keras.optimizers, _CLASSES[name.lower()])
    options: dict[str, Any] = {
        "learning_rate": learning_rate,
        "weight_decay": weight_decay,
        "global_clipnorm": clip_norm,
        "momentum": 0.9 if name.lower() == "momentum" else None,
        "gradient_accumulation_steps": accumulate if accumulate > 1 else None,
    }
    if ema is not None:
        options |= {"use_ema": True, "ema_momentum": ema}
    return made(**{key: value for key, value in options.items() if value is not None})


def check_options(*, clip_norm: float | None, weight_decay: float | None, ema: float | None, accumulate: int) -> None:
    """Raises `InvalidArgument` for a value out of range."""
    if clip_norm is not None:
        check_range("clip_norm", clip_norm, 0, float("inf"), closed="neither")
    if weight_decay is not None:
        check_range("weight_decay", weight_decay, 0, 1)
    if ema is not None:
        check_range("ema", ema, 0, 1, closed="neither")
    check_count("accumulate", accumulate)


def default_rate(name: str) -> float:
    """The learning rate that an optimizer has unless told otherwise."""
    constructor = inspect.signature(getattr(keras.optimizers, _CLASSES[name.lower()]).__init__)
    return float(constructor.parameters["learning_rate"].default)
