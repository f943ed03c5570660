"""Which operations stayed float in each file, gathered by reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tfbig.measurement.inspection import Inspection
from tfbig.report.report import Report


@dataclasses.dataclass(frozen=True)
class FloatGroup:
    """The operations of one file that have one reason."""

    reason: str
    count: int
    types: str  # e.g. "MEAN, RSQRT"
    outputs: tuple[str, ...]


def float_ops_of(inspection: Inspection) -> list[dict[str, str]]:
    """The operations that stayed float, as a report keeps them."""
    return [{"type": op.type, "output": op.output, "reason": op.reason or ""} for op in inspection.float_ops]


def float_groups(report: Report) -> dict[str, list[FloatGroup]]:
    """By file; a quantized file without any has an empty list, a float file is left out."""
    inspected = {f: float_ops_of(i) for f, i in report.inspections.items() if i.quantized}
    return {file: _grouped(ops) for file, ops in {**inspected, **report.float_ops}.items()}


def _grouped(ops: Sequence[Mapping[str, str]]) -> list[FloatGroup]:
    groups: dict[str, list[Mapping[str, str]]] = {}
    for op in ops:
        groups.setdefault(op.get("reason", ""), []).append(op)
    result = [
        FloatGroup(
            reason,
            len(members),
            ", ".join(sorted({op.get("type", "?") for op in members})),
            tuple(op.get("output", "?") for op in members),
        )
        for reason, members in groups.items()
    ]
    return sorted(result, key=lambda group: -group.count)
