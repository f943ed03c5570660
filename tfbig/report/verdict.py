"""The verdict: one sentence that says what the last row is worth beside the first."""

from __future__ import annotations

from collections.abc import Sequence

from tfbig.measurement.measure import Measurement
from tfbig.report.figures import (
    RowLike,
    count_text,
    is_share,
    latency_text,
    less_is_better,
    quality_change,
    quality_text,
    ratio,
)

_SAME_SPEED = 0.05  # latencies closer than this share are told as the same


def verdict(rows: Sequence[RowLike]) -> str:
    """The sentence; what was not measured is left out of it."""
    if not rows:
        return "Nothing was measured."
    base, last = rows[0], rows[-1]
    if len(rows) == 1:
        return f"{_capitalized(base.stage)}: {_alone(base.measurement)}."
    parts = [
        part
        for part in (
            _size(base.measurement, last.measurement),
            _speed(base.measurement, last.measurement),
            _quality(base.measurement, last.measurement),
        )
        if part
    ]
    told = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    return f"Beside {base.stage}, {last.stage} {told or 'has no figure in common'}."


def _alone(m: Measurement) -> str:
    parts = []
    if m.quality is not None:
        parts.append(f"{_metric(m)} {quality_text(m.quality, m.quality_name)} on {m.samples:,} samples")
    if m.bytes is not None:
        parts.append(f"{count_text(m.bytes)} bytes ({count_text(m.gzip_bytes)} gzipped)")
    if m.latency_ms is not None:
        parts.append(f"{latency_text(m.latency_ms)} ms")
    return ", ".join(parts) or "nothing was measured"


def _size(base: Measurement, last: Measurement) -> str:
    factor = ratio(base.gzip_bytes, last.gzip_bytes)
    if factor is None:
        return ""
    said = f"{factor:.1f} times smaller" if factor >= 1 else f"{1 / factor:.1f} times larger"
    return f"is {said} gzipped ({count_text(base.gzip_bytes)} to {count_text(last.gzip_bytes)} bytes)"


def _speed(base: Measurement, last: Measurement) -> str:
    factor = ratio(base.latency_ms, last.latency_ms)
    if factor is None:
        return ""
    figures = f"({latency_text(base.latency_ms)} to {latency_text(last.latency_ms)} ms)"
    if abs(factor - 1) <= _SAME_SPEED:
        return f"takes the same time {figures}"
    said = f"{factor:.1f} times the speed" if factor > 1 else f"1/{1 / factor:.1f} of the speed"
    return f"runs at {said} {figures}"


def _quality(base: Measurement, last: Measurement) -> str:
    change = quality_change(last, base)
    if change is None:
        return ""
    name, unit = last.quality_name, " points of" if is_share(last.quality_name) else ""
    amount = f"{abs(change) * 100:.2f}" if is_share(name) else f"{abs(change):.3g}"
    before, after = quality_text(base.quality, name), quality_text(last.quality, name)
    ends = f"({before} to {after}, {last.samples:,} samples)"
    if float(amount) == 0:
        return f"keeps its {_metric(last)} {ends}"
    if less_is_better(name):
        return f"{'raises' if change > 0 else 'lowers'} its {_metric(last)} by {amount} {ends}"
    return f"{'gains' if change > 0 else 'loses'} {amount}{unit} {_metric(last)} {ends}"


def _metric(m: Measurement) -> str:
    return m.quality_name.replace("_", " ")


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
