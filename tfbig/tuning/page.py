"""The report of a search as one page: the front, what was tried and why it was dropped, and the recipe to run again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tfbig.report.charts import Point, scatter
from tfbig.report.figures import count_text, latency_text, less_is_better, percent_text, quality_text
from tfbig.report.html import definitions, head, section
from tfbig.report.html_stages import cards, stage_table
from tfbig.report.markup import Markup, element
from tfbig.tuning.importance import importance
from tfbig.tuning.result import SearchResult
from tfbig.tuning.shelf import Candidate

_WIDE, _NARROW = (1040, 420), (350, 320)
_FRONT = (
    "On the validation split, which the search chose by. Named points are the front; left is smaller, up is better."
)
_TEST = "Measured once, at the end, on {split}."
_SENSITIVITY = "What the model loses when 80 % of one layer's weights become zero, without training."
_IMPORTANCE = "The share of the differences between the scores that each choice explains by itself."


def page(result: SearchResult, candidates: Sequence[Candidate], *, split: str) -> str:
    """The whole page.

    Args:
        candidates: every file that was measured.
        split: what the final table was measured on.
    """
    report = result.report
    body = [
        element("h1", element("b", "tfbig search"), report.title),
        element("p", report.verdict, class_="verdict"),
        cards(report),
        *(element("p", note, class_="note") for note in report.notes),
        *section("The front", _FRONT, _plot(result, candidates)),
        *section("The front, measured", _TEST.format(split=split), stage_table(report)),
        *section("The best recipe", "", _recipe(result)),
        *section(
            "Trials", f"{len(result.trials)} were trained.", _trials(result, {c.file.stem: c for c in candidates})
        ),
        *section("Dropped before training", "", _dropped(result)),
        *section("Importance of the choices", _IMPORTANCE, _shares(importance(result.trials))),
        *section("Sensitivity of the layers", _SENSITIVITY, _losses(result.sensitivity)),
        *section("Made with", "", element("div", definitions(report.environment), class_="panel")),
    ]
    whole = element("html", head(report), element("body", element("main", *(part for part in body if part))), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"


def _plot(result: SearchResult, candidates: Sequence[Candidate]) -> Markup:
    named = {c.name for c in result.front}
    points = [
        Point(
            c.name if c.name in named else "",
            float(c.measurement.bytes or 1),
            float(c.measurement.quality or 0),
            accent=c.name == result.best.name and c.epochs == result.best.epochs,
        )
        for c in candidates
    ]
    metric = result.best.measurement.quality_name
    heading = metric.replace("_", " ") + (", less is better" if less_is_better(metric) else "")
    texts = (lambda v: f"{v / 1e3:g} kB", lambda v: quality_text(v, metric))
    drawn = [
        element(
            "div", scatter(points, titles=("bytes", heading), texts=texts, size=size, name="the front"), class_=style
        )
        for size, style in ((_WIDE, "wide"), (_NARROW, "narrow"))
    ]
    return element("div", *drawn, class_="panel")


def _trials(result: SearchResult, by_name: Mapping[str, Candidate]) -> Markup:
    rows = []
    for trial in result.trials:
        last = by_name.get(trial.stages[-1]) if trial.stages and trial.reason is None else None
        figures = _figures(last) if last else ["-", "-", "-"]
        said = f"failed: {trial.reason}" if trial.reason else f"{trial.epochs} epochs a stage"
        name = element("td", trial.plan, element("small", said), class_="text name")
        style = "delivered" if last is not None and last.name == result.best.name else None
        cells = (element("td", text) for text in (*figures, f"{trial.seconds:,.1f}"))
        rows.append(element("tr", name, *cells, class_=style))
    return _table(("recipe", "quality", "bytes", "latency, ms", "seconds"), rows)


def _figures(candidate: Candidate) -> list[str]:
    m = candidate.measurement
    return [quality_text(m.quality, m.quality_name), count_text(m.bytes), latency_text(m.latency_ms)]


def _dropped(result: SearchResult) -> Markup | None:
    rows = [
        element("tr", element("td", verdict.plan, class_="text name"), element("td", verdict.reason, class_="text"))
        for verdict in result.dropped
    ]
    return _table(("recipe", "why"), rows) if rows else None


def _recipe(result: SearchResult) -> Markup:
    if result.recipe is None:
        return element("p", "The best file is the original model: no recipe that was tried does better.")
    text = (result.folder / "best" / "recipe.yaml").read_text(encoding="utf-8")
    return element("div", element("pre", text), class_="panel")


def _shares(shares: Mapping[str, float]) -> Markup | None:
    if not shares:
        return None
    rows = [
        element("tr", element("td", name, class_="text name"), element("td", percent_text(share), _bar(share)))
        for name, share in shares.items()
    ]
    return _table(("choice", "share"), rows)


def _losses(losses: Mapping[str, float]) -> Markup | None:
    largest = max([*losses.values(), 1e-9])
    rows = [
        element(
            "tr", element("td", name, class_="text name"), element("td", f"{loss:.4f}", _bar(max(0.0, loss / largest)))
        )
        for name, loss in losses.items()
    ]
    return _table(("layer", "loss of quality"), rows) if rows else None


def _bar(share: float) -> Markup:
    return element("span", element("i", style=f"width:{share * 100:.0f}%"), class_="bar")


def _table(headings: Sequence[str], rows: Sequence[Markup]) -> Markup:
    first = element("th", headings[0], class_="text name")
    others = (element("th", text, class_="text" if text == "why" else None) for text in headings[1:])
    table = element("table", element("thead", element("tr", first, *others)), element("tbody", *rows))
    return element("div", table, class_="panel flush scroll tall")
