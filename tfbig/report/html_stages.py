"""The parts of the report page that are about stages: figures, table, frontier, training curves."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from tfbig.report.charts import Point, curves, scatter
from tfbig.report.figures import (
    HEADINGS,
    count_text,
    difference_text,
    is_share,
    latency_text,
    less_is_better,
    quality_change,
    quality_heading,
    quality_text,
    ratio,
    ratio_text,
    table_cells,
)
from tfbig.report.markup import Markup, element
from tfbig.report.report import Report

_WIDE, _NARROW, _CURVE = (1040, 380), (350, 300), (320, 190)


def cards(report: Report) -> Markup | None:
    """The four figures that matter, of the last row beside the first."""
    if not report.rows:
        return None
    base, last = report.rows[0].measurement, report.rows[-1].measurement
    found = []
    if (factor := ratio(base.gzip_bytes, last.gzip_bytes)) is not None:
        sizes = f"{count_text(base.gzip_bytes)} to {count_text(last.gzip_bytes)} bytes"
        found.append(_card("smaller, gzipped", ratio_text(factor), sizes, _tone(factor - 1)))
    if (factor := ratio(base.bytes, last.bytes)) is not None:
        sizes = f"{count_text(base.bytes)} to {count_text(last.bytes)} bytes"
        found.append(_card("smaller, as it is", ratio_text(factor), sizes, _tone(factor - 1)))
    if (factor := ratio(base.latency_ms, last.latency_ms)) is not None:
        threads = f"{last.threads} thread{'s' if last.threads > 1 else ''}"
        times = f"{latency_text(base.latency_ms)} to {latency_text(last.latency_ms)} ms, {threads}"
        found.append(_card("faster", ratio_text(factor), times, _tone(factor - 1)))
    if last.quality is not None:
        found.append(_quality_card(report))
    return element("div", *found, class_="cards")


def _quality_card(report: Report) -> Markup:
    base, last = report.rows[0].measurement, report.rows[-1].measurement
    change = quality_change(last, base)
    detail, tone = f"on {last.samples:,} samples", ""
    if change is not None and len(report.rows) > 1:
        unit = " points" if is_share(last.quality_name) else ""
        detail = f"{difference_text(change, last.quality_name)}{unit}, {detail}"
        tone = _tone(-change if less_is_better(last.quality_name) else change, slack=0.005)
    name = last.quality_name.replace("_", " ")
    return _card(name, quality_text(last.quality, last.quality_name), detail, tone)


def _card(name: str, figure: str, detail: str, tone: str) -> Markup:
    return element(
        "div",
        element("div", name, class_="name"),
        element("div", figure, class_=f"figure {tone}".strip()),
        element("div", detail, class_="detail"),
        class_="card",
    )


def _tone(gain: float, slack: float = 0.0) -> str:
    return "good" if gain > 0 else "bad" if gain < -slack else ""


def stage_table(report: Report) -> Markup | None:
    """The table of all rows, the last one marked."""
    if not report.rows:
        return None
    headings = dataclasses.asdict(dataclasses.replace(HEADINGS, quality=quality_heading(report.rows)))
    del headings["file"]  # It stands under the stage.
    head = [element("th", text, class_="text name" if name == "stage" else None) for name, text in headings.items()]
    body = []
    for number, row in enumerate(table_cells(report.rows)):
        texts = dataclasses.asdict(row)
        stage = element("td", texts["stage"], element("small", texts["file"]), class_="text name")
        cells = [stage, *(element("td", texts[name]) for name in list(headings)[1:])]
        is_last = 0 < number == len(report.rows) - 1
        body.append(element("tr", *cells, class_="delivered" if is_last else None))
    table = element("table", element("thead", element("tr", *head)), element("tbody", *body))
    return element("div", table, class_="panel flush scroll")


def frontier(report: Report) -> Markup | None:
    """Quality against gzipped size, drawn once for wide and once for narrow windows."""
    rows = [r for r in report.rows if r.measurement.quality is not None and r.measurement.gzip_bytes]
    names = {row.measurement.quality_name for row in rows}
    if len(rows) < 2 or len(names) != 1:
        return None
    metric = names.pop()
    points = [
        Point(row.stage, float(m.gzip_bytes or 0), float(m.quality or 0), accent=row is report.rows[-1])
        for row in rows
        if (m := row.measurement)
    ]
    share = is_share(metric)
    heading = metric.replace("_", " ")
    drawn = [
        element(
            "div",
            scatter(
                points,
                titles=("gzip bytes", heading + (", less is better" if less_is_better(metric) else "")),
                texts=(_bytes_tick, (lambda v: f"{v * 100:.6g} %") if share else (lambda v: f"{v:.6g}")),
                size=size,
                name=f"{heading} against gzip bytes of every stage",
            ),
            class_=style,
        )
        for size, style in ((_WIDE, "wide"), (_NARROW, "narrow"))
    ]
    return element("div", *drawn, class_="panel")


def _bytes_tick(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:g} MB"
    return f"{value / 1e3:g} kB" if value >= 1e3 else f"{value:g} B"


def curve_panels(report: Report) -> Markup | None:
    """One chart per stage and metric, training and validation together."""
    panels = []
    for stage, history in report.histories.items():
        for metric, series in _metrics(history).items():
            name = f"{metric} of {stage} by epoch"
            chart = curves(series, text=lambda v: f"{v:.6g}", size=_CURVE, name=name)
            legend = [
                element("span", element("i", class_=f"b{number % 6 + 1}"), name)
                for number, (name, _) in enumerate(series)
            ]
            title = element("h3", f"{stage}: {metric.replace('_', ' ')}")
            key = element("p", *legend, class_="legend")
            panels.append(element("div", title, chart, key, class_="panel"))
    return element("div", *panels, class_="curves") if panels else None


def _metrics(history: Mapping[str, Sequence[float]]) -> dict[str, list[tuple[str, Sequence[float]]]]:
    """The curves of a stage by metric; `val_loss` belongs to `loss`. Empty curves are left out."""
    result: dict[str, list[tuple[str, Sequence[float]]]] = {}
    for name, curve in history.items():
        if any(value is not None for value in curve):
            label = "validation" if name.startswith("val_") else "training"
            result.setdefault(name.removeprefix("val_"), []).append((label, curve))
    return result
