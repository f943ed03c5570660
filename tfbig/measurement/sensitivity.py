"""Which layers of a model cost its outputs most when they are quantized, and what leaving them in float wins."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tfbig.compression.recipe import Recipe
from tfbig.compression.techniques.quantize import Quantize
from tfbig.isolation import run_isolated
from tfbig.measurement.diagnosis import Sensitivity, Trial, decibels

SCHEMES = ("int8", "int16x8", "int4", "dynamic", "weight_only_int8", "weight_only_int4")
_TRAINED = ("int8", "int16x8", "int4")  # those that `Quantize` can train for
_NEAR = 1.12  # 0.5 dB above the least noise: another layer in float for less than that is not worth its bytes


@dataclasses.dataclass(frozen=True)
class Ranking:
    sensitivity: tuple[Sensitivity, ...]
    trial: Trial | None
    recipe: Recipe | None


def scheme_of(said: str) -> str | None:
    """The export scheme of a file, from what `inspect` calls it; None for a float file."""
    if said.startswith("int16x8"):
        return "int16x8"
    if said.startswith("int8"):
        return "int4" if "int4" in said else "int8"
    if said.startswith("dynamic"):
        return "dynamic"
    if said.startswith("weight-only"):
        return "weight_only_int4" if "int4" in said else "weight_only_int8"
    return None


def rank(
    float_file: Path,
    quantized_file: Path,
    scheme: str,
    ops_by_layer: Mapping[str, Sequence[str]],
    weighted: Mapping[str, tuple[str, ...]],
    inputs: Sequence[dict[str, np.ndarray]],
) -> Ranking:
    """Quantizes each layer alone, then all but the worst."""

    def noise_of(selections: Sequence[Sequence[str]]) -> list[dict[str, float]]:
        files = (str(float_file), os.path.abspath(quantized_file))
        target = "tfbig.exporters.layer_trials:output_noise"
        return run_isolated(target, *files, scheme=scheme, selections=selections, samples=inputs)

    everything = [name for ops in ops_by_layer.values() for name in ops]
    together, *alone = noise_of([everything, *ops_by_layer.values()])
    noise = dict(zip(ops_by_layer, (result["noise"] for result in alone), strict=True))
    total = max(sum(noise.values()), 1e-30)
    ranked = tuple(
        Sensitivity(layer, decibels(noise[layer]), noise[layer] / total, layer in weighted)
        for layer in sorted(noise, key=lambda layer: -noise[layer])
    )
    candidates = [s.layer for s in ranked if s.can_be_exempt and s.share][: _most(len(weighted))]
    if not candidates:
        return Ranking(ranked, None, None)
    prefixes = [candidates[: k + 1] for k in range(len(candidates))]
    tried = noise_of([[n for layer, ops in ops_by_layer.items() if layer not in p for n in ops] for p in prefixes])
    chosen = _fewest([result["noise"] for result in tried])
    exempt = tuple(name for layer in prefixes[chosen] for name in weighted[layer])
    before, after = decibels(together["noise"]), decibels(tried[chosen]["noise"])
    trial = Trial(exempt, after, before, int(tried[chosen]["bytes"]), int(together["bytes"]))
    return Ranking(ranked, trial, None if trial.hurts else _recipe(scheme, exempt))


def _most(layers: int) -> int:
    """How many layers may be left in float: a third of those with weights, and not more than eight."""
    return max(1, min(8, layers // 3))


def _fewest(noises: Sequence[float]) -> int:
    """The first of several selections that comes near the best of them."""
    return next(i for i, noise in enumerate(noises) if noise <= _NEAR * min(noises))


def _recipe(scheme: str, exempt: tuple[str, ...]) -> Recipe | None:
    if scheme not in _TRAINED:
        return None
    dtype = {"dtype": scheme} if scheme != "int8" else {}
    return Recipe(
        [Quantize(exempt=exempt, **dtype)],  # type: ignore[arg-type]
        name=f"{scheme}-exempt",
        description=f"{scheme}, but for the layers that lose most by it: {', '.join(exempt)}",
    )
