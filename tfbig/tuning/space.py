"""The recipes that a search chooses from, as a KerasTuner `HyperModel`: each set of values is one recipe."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import keras_tuner

from tfbig.compression.native.kernels import compressible_kernels
from tfbig.compression.recipe import Recipe, Stage, describe
from tfbig.compression.technique import Technique
from tfbig.compression.techniques.distill import Distill
from tfbig.errors import InvalidArgument, InvalidModel, check_count, unknown
from tfbig.tuning.choice import Choice, choices

STAGES = choices()
# From the largest file to the smallest: what is dropped for being too large takes all that is larger with it.
CHOICES: dict[str, tuple] = {
    **{name: choice.values for name, choice in STAGES.items()},
    "distill": (False, True),
    "exempt": (2, 1, 0),  # how many of the most sensitive layers are neither factored, pruned nor clustered
}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one trial does: a recipe, or None where the values leave the model as it is."""

    values: Mapping[str, Any]
    recipe: Recipe | None
    epochs: int  # in every stage

    @property
    def key(self) -> str:
        """Equal for values that come to the same."""
        return digest(self.recipe.get_config()["stages"] if self.recipe else None, self.epochs)

    def __str__(self) -> str:
        return told(self.recipe) if self.recipe else "nothing"


class RecipeSpace(keras_tuner.HyperModel):
    """All recipes of the choices, for one model.

    Args:
        model: what is to be compressed; choices that it cannot take are left out, and `notes` say why.
        sensitive: its layers, the most sensitive one first.
        epochs: passes over the data in every stage; several numbers are choices.
        given: choices in place of the usual ones, by name: one value fixes it.

    Raises:
        InvalidArgument: an unknown name in `given`, a value that no technique takes, or nothing but the model as it is.
    """

    def __init__(
        self,
        model: keras.Model,
        sensitive: Sequence[str],
        *,
        epochs: int | Sequence[int],
        given: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.sensitive = tuple(sensitive)
        self.notes: list[str] = []
        asked = {name: _values(name, value) for name, value in (given or {}).items()}
        self.choices = {**CHOICES, "epochs": _values("epochs", epochs), **asked}
        self._leave_out(model, asked)
        if all(self.choices[name] == (choice.unchanged,) for name, choice in STAGES.items()):
            raise InvalidArgument("`space` leaves nothing to search: every choice keeps the model as it is. Widen it.")

    def build(self, hp: keras_tuner.HyperParameters) -> Plan:
        """The plan of a set of values; declares the choices on the way."""
        values = {}
        for name, options in self.choices.items():
            if len(options) == 1:
                values[name] = options[0]
            elif name == "distill":
                values[name] = hp.Boolean(name)
            else:
                values[name] = hp.Choice(name, list(options))
        return self.plan(values)

    def plan(self, values: Mapping[str, Any]) -> Plan:
        """The plan of values by name; what is left out is what the space fixes."""
        full = self._full(values)
        spared = self.sensitive[: full["exempt"]]
        stages = [_with_distill(stage, full["distill"]) for stage in _stages(full, spared)]
        return Plan(full, Recipe(stages, name="found") if stages else None, full["epochs"])

    def _full(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: values.get(name, choices[0]) for name, choices in self.choices.items()}

    def known(self) -> list[dict[str, Any]]:
        """Values of the recipes that tfbig brings, as far as the space has them; the shortest recipe first."""
        found = []
        for recipe in sorted(map(Recipe.load, Recipe.names()), key=lambda recipe: len(recipe.stages)):
            values = {**_values_of(recipe), "exempt": 0, "epochs": max(self.choices["epochs"])}
            inside = all(value in self.choices[name] for name, value in values.items())
            planned = self.plan(values).recipe if inside else None
            if planned is not None and planned.stages == recipe.stages:
                found.append({name: value for name, value in values.items() if len(self.choices[name]) > 1})
        return found

    def harm(self, values: Mapping[str, Any]) -> float:
        """What quality the plan of these values is likely to cost, beside others: a guess before any was tried.

        Integers and half of the zeros cost little, ranks most, width in between; a teacher and exempt layers give
        some of it back.

        Reference:
            Gholami et al., "A Survey of Quantization Methods" (2021), https://arxiv.org/abs/2103.13630; Blalock et al.,
            "What is the State of Neural Network Pruning?" (2020), https://arxiv.org/abs/2003.03033, section 5.
        """
        full = self._full(values)
        harm = sum(choice.harm(full[name]) for name, choice in STAGES.items())
        return harm - 0.3 * full["distill"] - 0.1 * full["exempt"]

    def smallest(self) -> Iterator[list[Plan]]:
        """The plans of the smallest files, by kind: what fits no such plan fits none.

        A kind is what choices have between which the size does not decide. Its last plan may be impossible for the
        model, so that the next ones follow.
        """
        last = {"exempt": 0, "distill": False} | {name: self.choices[name][-1] for name in STAGES}
        for kind in self._products(lambda choice: choice.rivals > 1):
            yield [self.plan(last | kind | possible) for possible in self._products(lambda choice: choice.may_fail)]

    def _products(self, chosen: Callable[[Choice], bool]) -> Iterator[dict[str, Any]]:
        """All values of some choices together, from the smallest file on."""
        names = [name for name, choice in STAGES.items() if chosen(choice)]
        ends = [self.choices[name][::-1] for name in names]
        kept = [end[: STAGES[n].rivals] if STAGES[n].rivals > 1 else end for n, end in zip(names, ends, strict=True)]
        return (dict(zip(names, values, strict=True)) for values in itertools.product(*kept))

    def _leave_out(self, model: keras.Model, asked: Mapping[str, Any]) -> None:
        for name, choice in STAGES.items():
            try:
                choice.check_model(model)
            except (InvalidModel, InvalidArgument) as error:
                if name in asked and self.choices[name] != (choice.unchanged,):
                    raise InvalidArgument(f"`space['{name}']` cannot be searched for this model. {error}") from error
                self.choices[name] = (choice.unchanged,)
                self.notes.append(f"No choice of {name}: {error}")
        most = max(0, len({k.layer.name for k in compressible_kernels(model)}) - 1)
        self.choices["exempt"] = tuple(n for n in self.choices["exempt"] if n <= min(most, len(self.sensitive))) or (0,)


def _stages(values: Mapping[str, Any], spared: Sequence[str]) -> list[Technique]:
    changed = {name: choice for name, choice in STAGES.items() if values[name] != choice.unchanged}
    return [choice.technique(**choice.options(values[name], spared)) for name, choice in changed.items()]


def _values_of(recipe: Recipe) -> dict[str, Any]:
    """The choices that come nearest to a recipe: equal to it only if the space has nothing else of it."""
    techniques = [technique for stage in recipe.stages for technique in stage]
    values: dict[str, Any] = {"distill": any(isinstance(technique, Distill) for technique in techniques)}
    for name, choice in STAGES.items():
        found = [value for technique in techniques if (value := choice.value_of(technique)) is not None]
        values[name] = found[-1] if found else choice.unchanged
    return values


def _with_distill(technique: Technique, distill: bool) -> Stage:
    return (technique, Distill()) if distill else (technique,)


def _values(name: str, given: Any) -> tuple:
    """The values of a choice, checked, from the largest file to the smallest."""
    if name not in (*CHOICES, "epochs"):
        raise unknown("choice in `space`:", name, (*CHOICES, "epochs"))
    values = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if not values:
        raise InvalidArgument(f"`{_argument(name)}` must hold at least one value, received {given!r}.")
    values = tuple(dict.fromkeys(_checked(name, value) for value in values))
    if name in STAGES:
        return tuple(sorted(values, key=STAGES[name].size, reverse=True))
    return tuple(sorted(values, reverse=name == "exempt"))


def _checked(name: str, value: Any) -> Any:
    if name in STAGES:
        return STAGES[name].checked(_argument(name), value)
    if name == "distill":
        if not isinstance(value, bool):
            raise InvalidArgument(f"`space['distill']` must be True or False, received {value!r}.")
        return value
    return check_count(_argument(name), value, low=1 if name == "epochs" else 0)


def _argument(name: str) -> str:
    return name if name == "epochs" else f"space['{name}']"


def told(recipe: Recipe) -> str:
    """A recipe in a line: "prune channels 0.5, prune 0.8 + distill"."""
    return ", ".join(describe(stage) for stage in recipe.stages)


def digest(*parts: Any) -> str:
    """Twelve letters that stand for JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]
