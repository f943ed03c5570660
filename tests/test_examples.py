"""Every example runs, and prints figures that make sense."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tfbig

EXAMPLES = Path(tfbig.__file__).parents[1] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


def run_quick(name: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py"), "--quick"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def accuracies(table: str) -> dict[str, float]:
    """The accuracy of each row of a result's table."""
    rows = re.findall(r"^  (\S.*?)  +\S+\.tflite +(\d+\.\d\d) %", table, re.MULTILINE)
    return {stage: float(percent) for stage, percent in rows}


def test_the_examples_are_there():
    assert {"quickstart", "by_hand", "own_photos", "distill"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_example_says_what_it_does_and_how_to_run_it(name):
    text = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text()))
    assert f"python examples/{name}.py" in text and "--quick" in text


def test_quickstart(tmp_path):
    table = accuracies(run_quick("quickstart", tmp_path))
    assert list(table) == ["float", "1 prune 0.8", "2 quantize int8"]
    assert table["float"] > 90 and table["2 quantize int8"] > 85
    assert {"model.keras", "model.tflite", "report.html"} <= set(os.listdir(tmp_path / "saved_models" / "quickstart"))


def test_by_hand(tmp_path):
    told = run_quick("by_hand", tmp_path)
    rows = re.findall(r"^(\w+)\.tflite +accuracy ([\d.]+)  zeros ([\d.]+)%  ([\d,]+) bytes", told, re.MULTILINE)
    figures = {name: (float(a), float(z), int(size.replace(",", ""))) for name, a, z, size in rows}
    assert list(figures) == ["float", "pruned", "int8"]
    assert min(accuracy for accuracy, _, _ in figures.values()) > 0.9
    assert figures["float"][1] < 1 and figures["pruned"][1] >= 79.9 and figures["int8"][1] >= 79.9
    assert figures["int8"][2] * 3 < figures["float"][2]


def test_own_photos(tmp_path):
    told = run_quick("own_photos", tmp_path)
    assert "140 pictures to learn from: circles, squares" in told
    table = accuracies(told)
    assert list(table) == ["float", "1 quantize int8"]
    assert min(table.values()) > 90
