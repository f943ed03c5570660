"""Drops hopeless plans before anything is trained: what will not fit the budget, and what cannot be built."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from tfbig.errors import TfbigError
from tfbig.files import atomic_file
from tfbig.tuning.budget import Budget, Figures
from tfbig.tuning.rehearsal import rehearse
from tfbig.tuning.space import STAGES, Plan, digest, told

_TIMING_SLACK = 0.25  # Two timings of one file differ by as much on a busy machine.
_SIZE_SLACK = 0.03  # Where zeros stand, and so what sparse encoding and gzip make of them, is known after training.
_UNBUILDABLE = "it cannot be built"
_SLACK = {"max_latency_ms": _TIMING_SLACK, "max_gzip_bytes": _SIZE_SLACK, "max_bytes": _SIZE_SLACK, "max_macs": 0.0}


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What the screen found out about a plan.

    Attributes:
        reason: why it was dropped; None if it was not.
        figures: of its untrained file, None if there is none.
    """

    plan: str
    values: Mapping[str, Any]
    reason: str | None
    figures: Figures | None
    over: float = 0.0  # by how much the limits are exceeded, all together


class Screen:
    """Rehearses plans, remembers what came of it, and spares those whose fate follows from another's.

    Args:
        inputs: a batch of the model's inputs.
        path: a JSON file that keeps the rehearsals for a search that goes on later.
    """

    def __init__(self, model: keras.Model, inputs: Any, budget: Budget, base: Figures, path: Path):
        self.model, self.inputs, self.budget, self.base, self.path = model, inputs, budget, base, path
        self.active = any(name in _SLACK for name in budget.limits())
        self.verdicts: dict[str, Verdict] = {}
        if path.exists():
            entries = json.loads(path.read_text(encoding="utf-8"))
            self.verdicts = {key: _verdict(values) for key, values in entries.items()}

    def dropped(self) -> list[Verdict]:
        """What was dropped, each with its reason."""
        return [verdict for verdict in self.verdicts.values() if verdict.reason]

    def __call__(self, plan: Plan) -> str | None:
        """Why the plan is hopeless, or None."""
        if plan.recipe is None:
            return "it leaves the model as it is"
        if not self.active:
            return None
        key = digest(
            [[{"name": t.name, **t.get_config()} for t in s if t.name != "distill"] for s in plan.recipe.stages]
        )
        if key not in self.verdicts:
            known = next((v for v in self.verdicts.values() if _follows(plan.values, v)), None)
            if known is not None:
                return f"it is no smaller than {known.plan}, which was dropped" if known.reason else None
            self.verdicts[key] = self._rehearsed(plan)
            self._save()
        return self.verdicts[key].reason

    def any_fits(self, kinds: Iterable[Sequence[Plan]]) -> bool:
        """Whether there is hope for one kind of plan: for the first one of it that can be built."""
        return any(self._fits(plans) for plans in kinds) if self.active else True

    def _fits(self, plans: Sequence[Plan]) -> bool:
        for plan in plans:
            reason = self(plan)
            if reason is None or not reason.startswith(_UNBUILDABLE):
                return reason is None
        return False

    def closest(self) -> Verdict | None:
        """Of the dropped plans that could be built, the one that comes nearest to the budget."""
        built = [verdict for verdict in self.dropped() if verdict.figures is not None]
        return min(built, key=lambda verdict: verdict.over, default=None)

    def _rehearsed(self, plan: Plan) -> Verdict:
        assert plan.recipe is not None
        name = told(plan.recipe)
        try:
            figures = rehearse(self.model, plan.recipe, self.inputs, latency=self.budget.max_latency_ms is not None)
        except TfbigError as error:
            return Verdict(name, plan.values, f"{_UNBUILDABLE}: {error}", None)
        except Exception as error:  # The trial would end by it too; the reason stands in the report.
            return Verdict(name, plan.values, f"{_UNBUILDABLE}: {type(error).__name__}: {error}", None)
        over = self.budget.excess(figures, None)
        if all(share <= _SLACK[limit] for limit, share in over.items()):
            return Verdict(name, plan.values, None, figures)
        reason = f"its file will have {self.budget.told(figures, self.base)}"
        return Verdict(name, plan.values, reason, figures, sum(over.values()))

    def _save(self) -> None:
        entries = {key: dataclasses.asdict(verdict) for key, verdict in self.verdicts.items()}
        with atomic_file(self.path) as partial:
            partial.write_text(json.dumps(entries, indent=1), encoding="utf-8")


def _follows(values: Mapping[str, Any], verdict: Verdict) -> bool:
    """Whether a plan shares the fate of one that was rehearsed: that was too large, or small enough.

    Ranks and types that differ say nothing, nor do widths and depths about what can be built.
    """
    if verdict.figures is None:
        return False
    theirs = {name: verdict.values.get(name, choice.unchanged) for name, choice in STAGES.items()}
    agreed = [n for n, choice in STAGES.items() if choice.rivals > 1 or (choice.may_fail and not verdict.reason)]
    if any(values[name] != theirs[name] for name in agreed):
        return False
    sizes = [(choice.size(values[name]), choice.size(theirs[name])) for name, choice in STAGES.items()]
    sizes.append((values["exempt"], verdict.values["exempt"]))
    return all(mine >= other if verdict.reason else mine <= other for mine, other in sizes)


def _verdict(entry: dict[str, Any]) -> Verdict:
    figures = entry["figures"] and Figures(**entry["figures"])
    return Verdict(**{**entry, "figures": figures})
