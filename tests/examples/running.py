"""Runs the examples as a user does, in a process of their own, and reads what they print."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import tfbig

EXAMPLES = Path(tfbig.__file__).parents[1] / "examples"


def run_python(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent), **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def run(name: str, folder: Path, *arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return run_python(folder, *python, str(EXAMPLES / f"{name}.py"), *arguments)


def run_quick(name: str, folder: Path) -> str:
    done = run(name, folder, "--quick")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def accuracies(table: str) -> dict[str, float]:
    """The accuracy of each row of a result's table."""
    rows = re.findall(r"^  (\S.*?)  +\S+\.tflite +(\d+\.\d\d) %", table, re.MULTILINE)
    return {stage: float(percent) for stage, percent in rows}


def figures_of(table: str) -> dict[str, float]:
    """The quality of each row of a result's table, as it stands there."""
    rows = re.findall(r"^  (\S.*?)  +\S+\.tflite +(\d[\d.]*) ", table, re.MULTILINE)
    return {stage: float(value) for stage, value in rows}
