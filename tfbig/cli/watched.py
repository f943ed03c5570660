"""Runs a command in processes of its own: one that dies in the middle of a trial is started again, and goes on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tfbig.errors import TfbigError, check_count
from tfbig.files import set_aside
from tfbig.isolation import death
from tfbig.tuning.workers import LIFELINE, run_in_processes


class ProcessDied(TfbigError, RuntimeError):
    """The process of a command was killed outside of a trial."""


def is_to_be_watched(arguments: argparse.Namespace) -> bool:
    """Whether this process is to start the command's own ones; in these, it runs."""
    return arguments.watched and LIFELINE not in os.environ


def run_watched(arguments: argparse.Namespace, argv: Sequence[str]) -> int:
    """Runs the command line `argv` again in its own processes; returns its exit code.

    Raises:
        InvalidArgument: `--workers` below 1.
        ProcessDied: it was killed, and not by a trial.
    """
    workers = getattr(arguments, "workers", 1)
    check_count("--workers", workers)
    command = [sys.executable, "-P", "-m", "tfbig", *argv]
    try:
        with set_aside(arguments.out, wanted=arguments.overwrite):
            _check(run_in_processes(command, directory=Path(arguments.out), workers=workers))
    except _Failed as failure:
        return failure.code
    return 0


class _Failed(Exception):
    def __init__(self, code: int):
        self.code = code


def _check(code: int) -> None:
    """Raises unless the code is 0, by which what was set aside is kept."""
    if code < 0:
        raise ProcessDied(f"The process {death(code)}. The same command goes on from the last finished trial.")
    if code:
        raise _Failed(code)
