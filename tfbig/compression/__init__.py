"""Techniques that make models smaller and faster, the recipes that combine them, and the engines behind them."""

from __future__ import annotations

import inspect
from typing import Any

from tfbig.compression.technique import Technique
from tfbig.errors import InvalidArgument
from tfbig.registry import Registry

registry = Registry(f"{__name__}.techniques", "technique")


def names() -> list[str]:
    """The names of all techniques, as recipes spell them."""
    return registry.names()


def technique_class(name: str) -> type[Technique]:
    """The class of a technique by its name.

    Raises:
        InvalidArgument: no such technique; the message names the nearest one.
    """
    classes = inspect.getmembers(registry[name], inspect.isclass)
    return next(cls for _, cls in classes if issubclass(cls, Technique) and vars(cls).get("name") == name)


def technique_from_config(config: dict[str, Any]) -> Technique:
    """Builds a technique from `{"name": "prune", "sparsity": 0.8}`.

    Raises:
        InvalidArgument: no name, an unknown name, or an option that the technique does not have.
    """
    if not isinstance(config, dict) or "name" not in config:
        raise InvalidArgument(
            f"A technique must be a mapping with a `name`, such as {{name: prune}}, received {config!r}."
        )
    options = {key: value for key, value in config.items() if key != "name"}
    return technique_class(config["name"]).from_config(options)
