"""Where a configuration came from, and how its JSON is read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from tfbig.errors import InvalidFile


@dataclasses.dataclass(frozen=True)
class Source:
    """A model file that is being read.

    Attributes:
        path: the file, for error messages.
        era: major version of the Keras that wrote it: 1, 2 or 3.
        custom_objects: the user's classes and functions by name.
        unsafe: whether code in the file may be run.
    """

    path: Path
    era: int
    custom_objects: dict[str, Any]
    unsafe: bool


def era_of(version: object) -> int:
    """The major version in a `keras_version` attribute; files without one were written by Keras 1."""
    text = version.decode() if isinstance(version, bytes) else str(version or "1")
    return int(text.split(".")[0]) if text.split(".")[0].isdigit() else 2


def decode(text: str | bytes, path: Path) -> dict[str, Any]:
    """Reads a configuration; tuples and shapes that Keras 2 wrote as dictionaries become lists.

    Raises:
        InvalidFile: not JSON, or not a configuration of a model.
    """
    try:
        config = json.loads(text, object_hook=_plain)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise InvalidFile(f"`{path}`: its model configuration is not valid JSON ({error}).") from error
    if not isinstance(config, dict) or "class_name" not in config or "config" not in config:
        raise InvalidFile(f"`{path}`: its configuration is not one of a Keras model (no class_name and config).")
    return config


def _plain(value: dict[str, Any]) -> Any:
    if value.get("class_name") in ("__tuple__", "TensorShape"):
        return value.get("items", [])
    if value.get("class_name") == "__ellipsis__":
        return Ellipsis
    return value
