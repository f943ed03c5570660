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
        """Builds the recipe from `get_config`'s dictionary; a stage may also be a single mapping."""
        if not isinstance(config, dict) or not isinstance(config.get("stages"), list):
            raise InvalidArgument(f"A recipe must be a mapping with a list of `stages`, received {config!r}.")
        stages = [
            [technique_from_config(entry) for entry in (stage if isinstance(stage, list) else [stage])]
            for stage in config["stages"]
        ]
        return cls(stages, name=config.get("name", "recipe"), description=config.get("description", ""))

    def to_json(self) -> str:
        return json.dumps(self.get_config(), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        return cls.from_config(json.loads(text))

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.get_config(), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        return cls.from_config(yaml.safe_load(text))

    @classmethod
    def load(cls, name_or_path: str | os.PathLike) -> Recipe:
        """The recipe of a name from `names()`, or of a `.yaml` or `.json` file.

        Raises:
            InvalidArgument: no such name; the message gives the nearest one.
            InvalidFile: the file is missing or is not a recipe.
        """
        text = str(name_or_path)
        if not text.endswith((".json", ".yaml", ".yml")):
            if text not in cls.names():
                raise unknown("recipe", text, cls.names())
            return cls.from_yaml((_folder() / f"{text}.yaml").read_text())
        path = Path(text)
        try:
            return cls.from_config(yaml.safe_load(path.read_text()))  # JSON is YAML.
        except FileNotFoundError:
            raise InvalidFile(f"The recipe file '{path}' does not exist. Named recipes: {', '.join(cls.names())}.") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidFile(f"The recipe file '{path}' is neither YAML nor JSON: {error}") from error

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
    parts = []
    for technique in stage:
        values = [str(v) for v in technique.get_config().values() if isinstance(v, int | float | str)]
        parts.append(" ".join([technique.name.replace("_", " "), *values[:1]]))
    return " + ".join(parts)


def _as_stage(stage: Any) -> Stage:
    techniques = (stage,) if isinstance(stage, Technique) else tuple(stage) if isinstance(stage, list | tuple) else ()
    if not techniques or not all(isinstance(technique, Technique) for technique in techniques):
        raise InvalidArgument(
            f"A stage must be a technique such as tfbig.Prune(sparsity=0.8), or a tuple of them, received {stage!r}."
        )
    names = [technique.name for technique in techniques]
    if len(set(names)) < len(names):
        raise InvalidArgument(f"A stage must hold each technique once, received {', '.join(names)}. Make it two stages.")
    return techniques


def _folder() -> Any:
    return resources.files("tfbig.compression") / "recipes"
