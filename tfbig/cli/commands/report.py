"""`tfbig report`: the report of a results folder, written again and printed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tfbig.cli import options

HELP = "print a result's table, and write its report.html and report.md from its report.json"
EXAMPLE = "tfbig report saved_models/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a folder that compress or demo wrote")
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    from tfbig.report.pages import write_pages
    from tfbig.report.report import Report
    from tfbig.report.table import print_report
    from tfbig.tuning.folder import is_search

    folder = Path(arguments.folder)
    report = Report.load(folder / "report.json")
    told = f"Wrote {folder / 'report.html'} and {folder / 'report.md'}"
    if is_search(folder):
        told = f"The page of this search, {folder / 'report.html'}, stays as it is: it shows the front and every trial."
    else:
        write_pages(report, folder)
    if not arguments.json:
        print_report(report)
    if not (arguments.json or arguments.quiet):
        print(f"\n{told}")
    return report.to_dict()
