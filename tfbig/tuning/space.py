"""The recipes that a search chooses from, as a KerasTuner `HyperModel`: each set of values is one recipe."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import keras_tuner

from tfbig.compression.native.kernels import compressible_kernels
from tfbig.compression.recipe import Recipe, Stage, describe
from tfbig.compression.techniques.cluster import Cluster
from tfbig.compression.techniques.distill import Distill
from tfbig.compression.techniques.low_rank import LowRank
from tfbig.compression.techniques.prune import Prune
from tfbig.compression.techniques.prune_channels import PruneChannels
from tfbig.compression.techniques.quantize import Quantize
from tfbig.errors import InvalidArgument, InvalidModel, check_range, unknown

# From the largest file to the smallest: what is dropped for being too large takes all that is larger with it.
CHOICES: dict[str, tuple] = {
    "channels": (1.0, 0.75, 0.5, 0.4, 0.25),  # share of the FLOPs that channel pruning keeps
    "rank": (1.0, 0.75, 0.5, 0.25),  # share of the full rank
    "sparsity": (0.0, 0.5, 0.7, 0.8, 0.9),  # share of zeros in all layers together
    "clusters": (0, 64, 32, 16, 8),  # values in a tensor, 0 for any number
    "bits": ("float32", "int16x8", "int8", "int4"),
    "distill": (False, True),
    "exempt": (2, 1, 0),  # how many of the most sensitive layers are neither factored, pruned nor clustered
}
UNCHANGED = {"channels": 1.0, "rank": 1.0, "sparsity": 0.0, "clusters": 0, "bits": "float32", "distill": False}
_HARM = {"float32": 0.0, "int16x8": 0.0, "int8": 0.1, "int4": 0.5}
_SHARES = {"channels": "right", "rank": "right", "sparsity": "left"}  # and the end that belongs to the range
_OPTIONS = {
    "channels": (PruneChannels, "flops"),
    "rank": (LowRank, "rank"),
    "sparsity": (Prune, "sparsity"),
    "clusters": (Cluster, "clusters"),
    "bits": (Quantize, "dtype"),
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
        if all(self.choices[name] == (value,) for name, value in UNCHANGED.items() if name != "distill"):
            raise InvalidArgument("`space` leaves nothing to search: every choice keeps the model as it is. Widen it.")

    def build(self, hp: keras_tuner.HyperParameters) -> Plan:
        """The plan of a set of values; declares the choices on the way."""
        values = {}
        for name, choices in self.choices.items():
            if len(choices) == 1:
                values[name] = choices[0]
            elif name == "distill":
                values[name] = hp.Boolean(name)
            else:
                values[name] = hp.Choice(name, list(choices))
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
        clusters = 8 / full["clusters"] if full["clusters"] else 0.0
        structure = 2 * (1 - full["channels"]) + 5 * (1 - full["rank"]) + 2.5 * full["sparsity"] ** 3 + clusters
        return structure + _HARM[full["bits"]] - 0.3 * full["distill"] - 0.1 * full["exempt"]

    def smallest(self) -> Iterator[list[Plan]]:
        """The plans of the smallest files, by kind (bits and rank): what fits no such plan fits none.

        Channel pruning down to its last choice may be impossible for the model, so that the next ones follow. Of the
        types only the two smallest are asked for: no other one makes a file smaller or faster.
        """
        last = {name: self.choices[name][-1] for name in ("sparsity", "clusters")}
        for bits in self.choices["bits"][:-3:-1]:
            for rank in reversed(self.choices["rank"]):
                extreme = {"bits": bits, "rank": rank, **last, "exempt": 0, "distill": False}
                yield [self.plan({**extreme, "channels": share}) for share in reversed(self.choices["channels"])]

    def _leave_out(self, model: keras.Model, asked: Mapping[str, Any]) -> None:
        techniques: dict[str, PruneChannels | LowRank] = {
            "channels": PruneChannels(flops=0.9),
            "rank": LowRank(rank=0.25),
        }
        for name, technique in techniques.items():
            try:
                technique.plan(model)
            except (InvalidModel, InvalidArgument) as error:
                if name in asked and self.choices[name] != (1.0,):
                    raise InvalidArgument(f"`space['{name}']` cannot be searched for this model. {error}") from error
                self.choices[name] = (1.0,)
                self.notes.append(f"No choice of {name}: {error}")
        most = max(0, len({k.layer.name for k in compressible_kernels(model)}) - 1)
        self.choices["exempt"] = tuple(n for n in self.choices["exempt"] if n <= min(most, len(self.sensitive))) or (0,)


def _stages(values: Mapping[str, Any], spared: Sequence[str]) -> list[Any]:
    alone = dict.fromkeys(spared)
    found: list[Any] = []
    if values["channels"] < 1:
        found.append(PruneChannels(flops=values["channels"]))
    if values["rank"] < 1:
        found.append(LowRank(rank=values["rank"], exclude=tuple(spared)))
    if values["sparsity"] > 0:
        found.append(Prune(sparsity=values["sparsity"], scope="global", layers=alone or None))
    if values["clusters"] > 0:
        found.append(Cluster(clusters=values["clusters"], layers=alone or None))
    if values["bits"] != "float32":
        found.append(Quantize(values["bits"]))
    return found


def _values_of(recipe: Recipe) -> dict[str, Any]:
    """The choices that come nearest to a recipe: equal to it only if the space has nothing else of it."""
    values: dict[str, Any] = dict(UNCHANGED)
    for technique in (technique for stage in recipe.stages for technique in stage):
        for name, (kind, option) in _OPTIONS.items():
            if isinstance(technique, kind):
                values[name] = getattr(technique, option)
        values["distill"] |= isinstance(technique, Distill)
    return values


def _with_distill(technique: Any, distill: bool) -> Stage:
    return (technique, Distill()) if distill else (technique,)


def _values(name: str, given: Any) -> tuple:
    """The values of a choice, checked, in the order of `CHOICES`."""
    if name not in (*CHOICES, "epochs"):
        raise unknown("choice in `space`:", name, (*CHOICES, "epochs"))
    values = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if not values:
        raise InvalidArgument(f"`{_argument(name)}` must hold at least one value, received {given!r}.")
    for value in values:
        _check(name, value)
    order = {"bits": CHOICES["bits"].index, "clusters": lambda n: -n or -math.inf, "exempt": lambda n: -n}
    falling = name in ("channels", "rank")
    values = tuple(float(v) if name in _SHARES else v for v in dict.fromkeys(values))
    return tuple(sorted(values, key=order.get(name), reverse=falling))


def _check(name: str, value: Any) -> None:
    if name in _SHARES:
        check_range(_argument(name), value, 0, 1, closed=_SHARES[name])
    elif name == "bits" and value not in CHOICES["bits"]:
        raise unknown("value of `space['bits']`:", value, CHOICES["bits"])
    elif name == "distill" and not isinstance(value, bool):
        raise InvalidArgument(f"`space['distill']` must be True or False, received {value!r}.")
    elif name in ("epochs", "exempt", "clusters"):
        low = 1 if name == "epochs" else 0
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InvalidArgument(f"`{_argument(name)}` must be a whole number, at least {low}, received {value!r}.")
        if name == "clusters" and value:
            Cluster(clusters=value)


def _argument(name: str) -> str:
    return name if name == "epochs" else f"space['{name}']"


def told(recipe: Recipe) -> str:
    """A recipe in a line: "prune channels 0.5, prune 0.8 + distill"."""
    return ", ".join(describe(stage) for stage in recipe.stages)


def digest(*parts: Any) -> str:
    """Twelve letters that stand for JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]
