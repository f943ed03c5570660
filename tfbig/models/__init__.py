"""Models to train and compress: builders of the suite, and every architecture of `keras.applications`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras

from tfbig.errors import InvalidArgument, InvalidFile, unknown
from tfbig.registry import Registry

BUILDERS = Registry("tfbig.models.builders", "model")

__all__ = ["BUILDERS", "arguments_of", "build", "names"]


def build(name: str, /, **config: Any) -> keras.Model:
    """Builds a Keras 3 model by name, with new random weights.

    Args:
        name: one of `names()`: a builder of the suite ("resnet", "mlp", ...) or an architecture of
            `keras.applications` ("MobileNetV2", ...), whose `weights` are None unless given.
        **config: arguments of that builder, e.g. `build("resnet", depth=20, classes=100)`.

    Returns:
        A Functional model, not compiled.

    Raises:
        InvalidArgument: an unknown name or argument (the message has the nearest one), a value out of range.
    """
    if name in BUILDERS:
        builder = BUILDERS[name].build
        check_arguments(name, builder, config)
        return builder(**config)
    if name not in _applications():
        raise unknown("model", name, names())
    return _application(name, config)


def names() -> list[str]:
    """The names that `build` takes: the suite's builders first, then `keras.applications`."""
    return BUILDERS.names() + sorted(_applications())


def arguments_of(name: str) -> list[str]:
    """The arguments that `build` takes for a model.

    Raises:
        InvalidArgument: an unknown name.
    """
    if name not in names():
        raise unknown("model", name, names())
    builder = BUILDERS[name].build if name in BUILDERS else _applications()[name]
    return [argument for argument in inspect.signature(builder).parameters if argument != "kwargs"]


def check_arguments(name: str, builder: Callable, config: dict[str, Any]) -> None:
    """Raises `InvalidArgument` for an argument in `config` that `builder` does not have."""
    known = [p for p in inspect.signature(builder).parameters if p not in ("kwargs", "name")]
    for argument in config:
        if argument not in known and argument != "name":
            raise unknown(f"argument of model '{name}':", argument, known)


def _applications() -> dict[str, Callable]:
    found = vars(keras.applications).items()
    return {name: function for name, function in found if name[0].isupper() and callable(function)}


def _application(name: str, config: dict[str, Any]) -> keras.Model:
    architecture = _applications()[name]
    check_arguments(name, architecture, config)
    try:
        return architecture(**{"weights": None, **config})
    except (ValueError, TypeError) as error:
        raise InvalidArgument(f"keras.applications.{name} refused {config}: {error}") from error
    except Exception as error:  # Keras raises a bare `Exception` for a download that fails.
        if "URL fetch failure" not in str(error):
            raise
        raise InvalidFile(
            f"The weights of {name} could not be downloaded: {error}. Get the file by other means and give its path, "
            "weights='FILE.weights.h5'."
        ) from error
