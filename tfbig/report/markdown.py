"""The report as Markdown, for a pull request."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import yaml

from tfbig.report.figures import HEADINGS, quality_heading, table_cells
from tfbig.report.float_operations import float_groups
from tfbig.report.report import Report


def markdown(report: Report) -> str:
    """The verdict, the table, what stayed float, the recipe and the environment, in GitHub's Markdown."""
    parts = [f"## {_escaped(report.title)}", f"**{_escaped(report.verdict)}**", _table(report)]
    parts += [f"> {_escaped(note)}" for note in report.notes]
    if floats := _floats(report):
        parts.append(_folded("Operations that stayed float", floats))
    if report.recipe is not None:
        recipe = yaml.safe_dump(report.to_dict()["recipe"], sort_keys=False, allow_unicode=True)
        parts.append(_folded("Recipe", _fenced("yaml", recipe)))
    if report.environment:
        lines = [f"- {_escaped(name)}: {_escaped(value)}" for name, value in report.environment.items()]
        parts.append(_folded("Environment", "\n".join(lines)))
    return "\n\n".join(parts) + "\n"


def _table(report: Report) -> str:
    headings = dataclasses.replace(HEADINGS, quality=quality_heading(report.rows))
    names = list(dataclasses.asdict(headings))
    rule = ["---" if name in ("stage", "file") else "---:" for name in names]
    cells = [dataclasses.astuple(row) for row in table_cells(report.rows)]
    return "\n".join(_row(row) for row in [dataclasses.astuple(headings), rule, *cells])


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell if set(cell) <= {"-", ":"} else _escaped(cell) for cell in cells) + " |"


def _floats(report: Report) -> str:
    lines = []
    for file, groups in float_groups(report).items():
        lines.append(f"`{file}`" + ("" if groups else ": none"))
        lines += [f"- {_escaped(group.reason)}: {group.count} ({_escaped(group.types)})" for group in groups]
    return "\n".join(lines)


def _folded(summary: str, content: str) -> str:
    return f"<details><summary>{summary}</summary>\n\n{content}\n\n</details>"


def _fenced(language: str, content: str) -> str:
    fence = "`" * 3
    while fence in content:
        fence += "`"
    return f"{fence}{language}\n{content.rstrip()}\n{fence}"


def _escaped(value: object) -> str:
    text = " ".join(str(value).split())
    for sign in "\\`*_[]<>|#":
        text = text.replace(sign, f"\\{sign}")
    return text
