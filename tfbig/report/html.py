"""The report as one page of HTML that needs nothing else: no network, no scripts."""

from __future__ import annotations

import os
from collections.abc import Mapping

import yaml

import tfbig
from tfbig.files import atomic_file
from tfbig.report.float_operations import FloatGroup, float_groups
from tfbig.report.html_layers import layers, sensitivity
from tfbig.report.html_stages import cards, curve_panels, frontier, stage_table
from tfbig.report.markup import Markup, element
from tfbig.report.report import SCHEMA_VERSION, Report
from tfbig.report.style import STYLE


def html(report: Report) -> str:
    """The whole page, verdict first."""
    body = [
        element("h1", element("b", "tfbig"), report.title),
        element("p", report.verdict, class_="verdict"),
        cards(report),
        *(element("p", note, class_="note") for note in report.notes),
        *section("Stage by stage", _STAGES, stage_table(report)),
        *section("Quality against size", _FRONTIER, frontier(report)),
        *section("Where the bytes and the milliseconds are", _LAYERS, layers(report)),
        *section("What rounding each layer costs", _SENSITIVITY, sensitivity(report)),
        *section("Operations that stayed float", "", _floats(report)),
        *section("Training", "One panel per stage and metric.", curve_panels(report)),
        *section("Run it again", "", _recipe(report)),
        *section("Made with", "", _environment(report)),
        element("footer", f"tfbig {tfbig.__version__}, report schema {SCHEMA_VERSION}"),
    ]
    page = element("html", head(report), element("body", element("main", *body)), lang="en")
    return f"<!DOCTYPE html>\n{page}\n"


def write_html(report: Report, path: str | os.PathLike) -> None:
    """Writes the page, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(html(report), encoding="utf-8")


_STAGES = "Each row was measured on the saved file itself. Smaller and faster compare with the first row."
_FRONTIER = "Left is smaller, up is better. The size is that of the gzipped file, on a logarithmic scale."
_SENSITIVITY = (
    "Each layer quantized alone, the others in float: the outputs' ratio of signal to noise, the worst first."
)
_LAYERS = "Operations that hold constants or take time: the bytes stored for them, and how long each takes alone."


def head(report: Report) -> Markup:
    """The head of the page: its title and its style."""
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"tfbig: {report.title}"),
        element("style", Markup(STYLE)),
    )


def section(title: str, lead: str, content: Markup | None) -> list[Markup]:
    """A heading, a sentence and the content; nothing where there is no content."""
    if not content:
        return []
    return [element("h2", title), element("p", lead, class_="lead") if lead else Markup(""), content]


def _floats(report: Report) -> Markup | None:
    parts = [_float_file(file, groups) for file, groups in float_groups(report).items()]
    return element("div", *parts, class_="two") if parts else None


def _float_file(file: str, groups: list[FloatGroup]) -> Markup:
    if not groups:
        said = element("p", "None: it computes in integers from end to end.", class_="good")
        return element("div", element("h3", file), said, class_="panel")
    items = [
        element(
            "li",
            element("b", f"{group.count} "),
            element("span", group.types, title="\n".join(group.outputs)),
            ": ",
            group.reason,
        )
        for group in groups
    ]
    return element("div", element("h3", file), element("ul", *items), class_="panel")


def _recipe(report: Report) -> Markup | None:
    if report.recipe is None and not report.files:
        return None
    parts = []
    if report.recipe is not None:
        text = yaml.safe_dump(report.to_dict()["recipe"], sort_keys=False, allow_unicode=True)
        lead = element("h3", "The recipe, for ", element("code", "tfbig compress --recipe recipe.yaml"))
        parts.append(element("div", lead, element("pre", text), class_="panel"))
    if report.files:
        parts.append(element("div", element("h3", "Files"), definitions(report.files), class_="panel"))
    return element("div", *parts, class_="two")


def _environment(report: Report) -> Markup | None:
    return element("div", definitions(report.environment), class_="panel") if report.environment else None


def definitions(values: Mapping[str, object]) -> Markup:
    """Names and their values."""
    return element(
        "dl", *(part for key, value in values.items() for part in (element("dt", key), element("dd", value)))
    )
