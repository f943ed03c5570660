"""`tfbig report`: the report of a results folder, written again or printed."""

from __future__ import annotations

import argparse
from pathlib import Path

from tfbig.cli import options
from tfbig.cli.terminal import print_json

HELP = "print a result's table, and write its report.html and report.md again"
EXAMPLE = "tfbig report saved_models/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="DIR", help="a folder that compress or demo wrote")
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> None:
    from tfbig.files import atomic_file
    from tfbig.report.html import html
    from tfbig.report.markdown import markdown
    from tfbig.report.report import Report

    folder = Path(arguments.folder)
    report = Report.load(folder / "report.json")
    for name, text in (("report.html", html(report)), ("report.md", markdown(report))):
        with atomic_file(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    if arguments.json:
        print_json(report.to_dict())
    elif not arguments.quiet:
        print(f"{report}\n\nWrote {folder / 'report.html'} and {folder / 'report.md'}")
