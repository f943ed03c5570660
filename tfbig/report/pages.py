"""The pages of a report, in its folder: `report.html` and `report.md`."""

from __future__ import annotations

from pathlib import Path

from tfbig.files import atomic_file
from tfbig.report.html import html
from tfbig.report.markdown import markdown
from tfbig.report.report import Report


def write_pages(report: Report, folder: Path) -> None:
    """Writes both, each whole or not at all."""
    for name, text in (("report.html", html(report)), ("report.md", markdown(report))):
        with atomic_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
