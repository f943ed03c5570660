"""The Pareto front: the files that no other file beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

from tfbig.tuning.budget import Budget, Figures
from tfbig.tuning.shelf import Candidate

_OF_LIMIT = {
    "max_bytes": "bytes",
    "max_gzip_bytes": "gzip_bytes",
    "max_latency_ms": "latency_ms",
    "max_macs": "macs",
}


def costs(budget: Budget, objective: str) -> tuple[str, ...]:
    """What a file is judged by besides its quality: its bytes, and what the user limits or minimizes."""
    named = [cost for limit, cost in _OF_LIMIT.items() if limit in budget.limits()]
    wanted = [objective] if objective != "quality" else []
    return tuple(dict.fromkeys([*named, *wanted] or ["bytes"]))


def within(candidates: Sequence[Candidate], budget: Budget, base: Figures) -> list[Candidate]:
    """The candidates that break no limit."""
    return [candidate for candidate in candidates if not budget.excess(candidate.figures, base)]


def front(candidates: Sequence[Candidate], by: Sequence[str]) -> list[Candidate]:
    """Those that no other one equals or beats in quality and in every cost, the smallest file first.

    Of candidates that are equal in all of it, the one with the shortest recipe stays.
    """
    ordered = sorted(candidates, key=lambda c: (c.measurement.bytes or 0, len(c.recipe.stages) if c.recipe else 0))
    points = [(c.figures.merit, *(-(getattr(c.figures, cost) or 0) for cost in by)) for c in ordered]
    return [
        candidate
        for i, candidate in enumerate(ordered)
        if not any(_beats(other, points[i]) or (other == points[i] and j < i) for j, other in enumerate(points))
    ]


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))
