"""`Recipe`: a list of stages, each one technique or several trained together; as JSON, as YAML, or by name."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from tfbig.compression import technique_from_config
from tfbig.compression.technique import Technique
from tfbig.errors import InvalidArgument, InvalidFile, unknown

Stage = tuple[Technique, ...]
_KEYS = ("name", "description", "stages")
_SUFFIXES = (".yaml", ".yml", ".json")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is done to a model, in order.

    Args:
        stages: a sequence of stages. A stage is one technique, or a tuple of techniques that are trained together.
        name: what reports call it.
        description: what it is for, in a sentence.

    Raises:
        InvalidArgument: a stage that is empty, holds something that is not a technique, or the same technique twice.
    """

    stages: tuple[Stage, ...]
    name: str = "recipe"
    description: str = ""

    def __init__(self, stages: Iterable[Technique | Sequence[Technique]], name: str = "recipe", description: str = ""):
        if not isinstance(stages, Iterable):
            raise InvalidArgument(
                f"`stages` must be a list of techniques, such as [tfbig.Quantize('int8')], received {stages!r}."
            )
        object.__setattr__(self, "stages", tuple(_as_stage(stage) for stage in stages))
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "description", description)
        if not self.stages:
            raise InvalidArgument("`stages` must hold at least one technique, such as [tfbig.Quantize('int8')].")

    def get_config(self) -> dict[str, Any]:
        """The recipe as plain JSON values."""
        stages = [[{"name": t.name, **t.get_config()} for t in stage] for stage in self.stages]
        return {"name": self.name, "description": self.description, "stages": stages}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Recipe:
        """Builds the recipe from `get_config`'s dictionary; a stage may also be a single mapping.

        Raises:
            InvalidArgument: not such a dictionary, or a technique or option in it that does not exist.
        """
        if not isinstance(config, dict):
            raise InvalidArgument(f"A recipe must be a mapping with a list of `stages`, received {config!r}.")
        for key in config:
            if key not in _KEYS:
                raise unknown("key of a recipe", key, _KEYS)
        if not isinstance(config.get("stages"), list):
            raise InvalidArgument(
                f"`stages` of a recipe must be a list of techniques such as {{name: prune, sparsity: 0.8}}, received "
                f"{config.get('stages')!r}."
            )
        stages = [
            [technique_from_config(entry) for entry in (stage if isinstance(stage, list) else [stage])]
            for stage in config["stages"]
        ]
        return cls(stages, name=str(config.get("name", "recipe")), description=str(config.get("description", "")))

    def to_json(self) -> str:
        """The recipe as JSON text."""
        return json.dumps(self.get_config(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """The inverse of `to_json`.

        Raises:
            InvalidArgument: the text is not JSON, or is not a recipe.
        """
        try:
            config = json.loads(text)
        except json.JSONDecodeError as error:
            raise InvalidArgument(f"A recipe must be JSON: {error}.") from error
        return cls.from_config(config)

    def to_yaml(self) -> str:
        """The recipe as YAML text."""
        return yaml.safe_dump(self.get_config(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """The inverse of `to_yaml`.

        Raises:
            InvalidArgument: the text is not YAML, or is not a recipe.
        """
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InvalidArgument(f"A recipe must be YAML: {' '.join(str(error).split())}.") from error
        return cls.from_config(config)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike) -> Recipe:
        """The recipe of a name from `names()`, or of a `.yaml` or `.json` file.

        Raises:
            InvalidArgument: no such name (the message gives the nearest one), or the file holds no recipe.
            InvalidFile: the file is missing or cannot be read.
        """
        text = os.fspath(name_or_path)
        if text in cls.names():
            return cls.from_yaml((_folder() / f"{text}.yaml").read_text(encoding="utf-8"))
        path = Path(text)
        if not path.is_file() and not text.endswith(_SUFFIXES):
            raise unknown("recipe", text, cls.names())
        if not path.is_file():
            raise InvalidFile(f"The recipe file '{path}' does not exist. Named recipes: {', '.join(cls.names())}.")
        try:
            content = path.read_text(encoding="utf-8")
            return cls.from_json(content) if path.suffix == ".json" else cls.from_yaml(content)
        except UnicodeDecodeError as error:
            raise InvalidFile(f"The recipe file '{path}' is not text: {error}.") from error
        except InvalidArgument as error:
            raise InvalidArgument(f"The recipe file '{path}' is no recipe. {error}") from error

    @staticmethod
    def names() -> list[str]:
        """The recipes that tfbig brings, one file each."""
        return sorted(entry.name.removesuffix(".yaml") for entry in _folder().iterdir() if entry.name.endswith(".yaml"))


def as_recipe(recipe: Any) -> Recipe:
    """A recipe from what a user may give: a recipe, a name, a path, one technique, or a list of stages."""
    if isinstance(recipe, Recipe):
        return recipe
    if isinstance(recipe, str | os.PathLike):
        return Recipe.load(recipe)
    return Recipe([recipe] if isinstance(recipe, Technique) else recipe)


def describe(stage: Stage) -> str:
    """A stage as a table shows it: "prune 0.8 + distill"."""
    parts = [(technique.name.replace("_", " "), _goal(technique)) for technique in stage]
    return " + ".join(f"{name} {goal}".strip() for name, goal in parts)


def _goal(technique: Technique) -> str:
    """The first option that is set, which is what a technique is named after: a share, a number, a type."""
    for field in dataclasses.fields(technique):
        value = getattr(technique, field.name)
        if not field.metadata.get("serialized", True) or isinstance(value, bool):
            return ""
        if value is not None:
            return f"{value:g}" if isinstance(value, int | float) else value if isinstance(value, str) else ""
    return ""


def _as_stage(stage: Any) -> Stage:
    techniques = (stage,) if isinstance(stage, Technique) else tuple(stage) if isinstance(stage, list | tuple) else ()
    if not techniques or not all(isinstance(technique, Technique) for technique in techniques):
        raise InvalidArgument(
            f"A stage must be a technique such as tfbig.Prune(sparsity=0.8), or a tuple of them, received {stage!r}."
        )
    names = [technique.name for technique in techniques]
    if len(set(names)) < len(names):
        raise InvalidArgument(
            f"A stage must hold each technique once, received {', '.join(names)}. Make it two stages."
        )
    return techniques


def _folder() -> Any:
    return resources.files("tfbig.compression") / "recipes"
