"""The before/after table: rich on a terminal, plain text anywhere else."""

from __future__ import annotations

import dataclasses
import io
import sys
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from tfbig.report.figures import HEADINGS, quality_heading, table_cells

if TYPE_CHECKING:
    from tfbig.report.report import Report

_LEFT = ("stage", "file")
_PLAIN_WIDTH = 240  # wide enough for every cell to stay on its line


def table(report: Report) -> Table:
    """The rows as a rich table; the last one, which is what was delivered, stands out."""
    result = Table(title=report.title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    headings = dataclasses.replace(HEADINGS, quality=quality_heading(report.rows))
    for name, heading in dataclasses.asdict(headings).items():
        result.add_column(heading, justify="left" if name in _LEFT else "right", overflow="fold")
    cells = table_cells(report.rows)
    for number, row in enumerate(cells):
        style = "bold" if 0 < number == len(cells) - 1 else ""
        result.add_row(*dataclasses.asdict(row).values(), style=style)
    return result


def text(report: Report) -> str:
    """The table, the verdict and the notes as plain text, without colours and without wrapped cells."""
    stream = io.StringIO()
    Console(file=stream, width=_PLAIN_WIDTH, color_system=None, highlight=False).print(table(report))
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    return "\n".join([*lines, report.verdict, *(f"Note: {note}" for note in report.notes)])


def print_report(report: Report) -> None:
    """Prints to the terminal, or plain text where standard output is none."""
    if not sys.stdout.isatty():
        print(text(report))
        return
    console = Console(highlight=False)
    console.print(table(report))
    console.print(report.verdict, style="bold")
    for note in report.notes:
        console.print(f"Note: {note}")
