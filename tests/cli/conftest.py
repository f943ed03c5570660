"""Runs commands in this process, as the `tfbig` program would."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable

import pytest

from tfbig.cli.main import main


@dataclasses.dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def tfbig_command(capfd, monkeypatch, tmp_path) -> Callable[..., Outcome]:
    """Calls the command in an empty folder; captures what reaches the terminal, whatever wrote it."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        try:
            code = main([os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in arguments])
        except SystemExit as stop:  # argparse's answer to --help and to usage errors
            code = int(stop.code or 0)
        return Outcome(code, *capfd.readouterr())

    return run
