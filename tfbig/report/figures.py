"""The figures of a row as people read them, and beside those of the first row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import PurePath
from typing import Protocol

from tfbig.measurement.measure import Measurement
from tfbig.measurement.quality import ERRORS

MISSING = "-"


class RowLike(Protocol):
    """What a row of a report has."""

    @property
    def stage(self) -> str: ...
    @property
    def measurement(self) -> Measurement: ...
    @property
    def seconds(self) -> float: ...


@dataclasses.dataclass(frozen=True)
class Figures:
    """The cells of one row, as text."""

    stage: str
    file: str
    quality: str
    difference: str  # to the first row: points, or the unit of the metric
    bytes: str
    bytes_ratio: str  # how many times smaller than the first row
    gzip_bytes: str
    gzip_ratio: str
    zeros: str
    latency: str  # median / 95th percentile
    speedup: str
    seconds: str


HEADINGS = Figures(
    stage="stage",
    file="file",
    quality="quality",
    difference="change",
    bytes="bytes",
    bytes_ratio="smaller",
    gzip_bytes="gzip bytes",
    gzip_ratio="smaller",
    zeros="zeros",
    latency="ms median / p95",
    speedup="faster",
    seconds="seconds",
)


def figures(row: RowLike, base: Measurement) -> Figures:
    """The cells of a row, compared with the measurement of the first row."""
    m, none = row.measurement, Measurement(None, None, "", 0, None, None, 0, 0.0, 0, None, None, 1)
    base = none if base is m else base  # the first row is not compared with itself
    return Figures(
        stage=row.stage,
        file=PurePath(m.file).name if m.file else MISSING,
        quality=quality_text(m.quality, m.quality_name),
        difference=difference_text(quality_change(m, base), m.quality_name),
        bytes=count_text(m.bytes),
        bytes_ratio=ratio_text(ratio(base.bytes, m.bytes)),
        gzip_bytes=count_text(m.gzip_bytes),
        gzip_ratio=ratio_text(ratio(base.gzip_bytes, m.gzip_bytes)),
        zeros=percent_text(m.zero_fraction),
        latency=_latencies(m),
        speedup=ratio_text(ratio(base.latency_ms, m.latency_ms)),
        seconds=f"{row.seconds:,.1f}",
    )


def table_cells(rows: Sequence[RowLike]) -> list[Figures]:
    """The cells of every row."""
    return [figures(row, rows[0].measurement) for row in rows]


def quality_heading(rows: Sequence[RowLike]) -> str:
    """The name of the metric if all rows share it, else "quality"."""
    names = {row.measurement.quality_name for row in rows if row.measurement.quality is not None}
    return names.pop().replace("_", " ") if len(names) == 1 else HEADINGS.quality


def less_is_better(metric: str) -> bool:
    """Whether the metric is an error."""
    return metric in ERRORS


def is_share(metric: str) -> bool:
    """Whether the metric is a share in [0, 1], told in percent and points."""
    return metric.endswith("accuracy")


def quality_change(m: Measurement, base: Measurement) -> float | None:
    """The quality less that of the first row, in the unit of the metric; None where it cannot be compared."""
    if m.quality is None or base.quality is None or m.quality_name != base.quality_name:
        return None
    return m.quality - base.quality


def quality_text(value: float | None, metric: str) -> str:
    """`0.9201` as "92.01 %" for a share, "0.9201" for another metric."""
    if value is None:
        return MISSING
    return f"{value * 100:.2f} %" if is_share(metric) else f"{value:.4g}"


def difference_text(change: float | None, metric: str) -> str:
    """`-0.0012` as "-0.12" points for a share, as it is for another metric."""
    if change is None:
        return MISSING
    text = f"{change * 100:+.2f}" if is_share(metric) else f"{change:+.3g}"
    return text.replace("-0.00", "+0.00") if float(text) == 0 else text


def percent_text(share: float) -> str:
    """`0.8` as "80.0 %"."""
    return f"{share * 100:.1f} %"


def ratio(base: float | None, value: float | None) -> float | None:
    """How many times smaller `value` is."""
    return base / value if base and value else None


def ratio_text(value: float | None) -> str:
    """`3.28` as "3.3x"."""
    if value is None:
        return MISSING
    return f"{value:.1f}x" if value < 100 else f"{value:.0f}x"


def count_text(value: int | None) -> str:
    """`96488` as "96,488"."""
    return MISSING if value is None else f"{value:,}"


def latency_text(milliseconds: float | None) -> str:
    """Milliseconds, three digits."""
    if milliseconds is None:
        return MISSING
    decimals = next((d for limit, d in ((0.1, 4), (1, 3), (10, 2), (100, 1)) if milliseconds < limit), 0)
    return f"{milliseconds:,.{decimals}f}"


def _latencies(m: Measurement) -> str:
    if m.latency_ms is None:
        return MISSING
    return f"{latency_text(m.latency_ms)} / {latency_text(m.latency_p95_ms)}"
