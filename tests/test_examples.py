"""Every example runs, and prints figures that make sense."""

from __future__ import annotations

import ast
import json
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
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def accuracies(table: str) -> dict[str, float]:
    """The accuracy of each row of a result's table."""
    rows = re.findall(r"^  (\S.*?)  +\S+\.tflite +(\d+\.\d\d) %", table, re.MULTILINE)
    return {stage: float(percent) for stage, percent in rows}


def test_the_examples_are_there():
    assert {
        "quickstart",
        "by_hand",
        "distill",
        "vision",
        "text",
        "dqn",
        "recommend",
        "train_big_mlp",
        "multi_worker",
    } <= set(NAMES)


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


def test_train_big_mlp(tmp_path):
    told = run_quick("train_big_mlp", tmp_path)
    assert "the training done, with the same weights: True" in told
    parameters, accuracy = re.search(r"([\d,]+) parameters  accuracy ([\d.]+)", told).groups()
    assert parameters == "4,078,010" and float(accuracy) > 0.9
    assert (tmp_path / "saved_models/big_mlp/logs/history.csv").read_text().count("\n") == 4


def test_mixed_precision(tmp_path):
    told = run_quick("mixed_precision", tmp_path)
    one = float(re.search(r"one device, float32: accuracy ([\d.]+)", told)[1])
    several, scale = re.search(r"2 devices, mixed_float16: accuracy ([\d.]+)  loss scale (\d+)", told).groups()
    assert one > 0.85 and float(several) > one - 0.05 and int(scale) >= 2**10


def test_multi_worker(tmp_path):
    told = run_quick("multi_worker", tmp_path)
    assert "undisturbed: started again 0 times" in told and "disturbed: started again 1 times" in told
    assert "Worker 1 was killed by SIGKILL" in told and "the same training: True" in told
    losses = [float(loss) for loss in re.search(r"^disturbed: .*losses (.*)$", told, re.MULTILINE)[1].split()]
    assert len(losses) == 3 and losses[-1] < 0.7 * losses[0]


def test_colab_notebook_falls_back_loudly(tmp_path):
    """All of its cells run, on a machine without a TPU, which they say."""
    cells = json.loads((EXAMPLES / "colab_tpu.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    program = "\n".join(cell for cell in code if not cell.startswith("%pip"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TPU_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(EXAMPLES.parent), "TFBIG_QUICK": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "NO TPU: TRAINING ON THIS MACHINE'S PROCESSOR INSTEAD" in done.stdout and "Runtime > Change" in done.stdout
    assert float(re.search(r"accuracy (0\.\d+)", done.stdout)[1]) > 0.9
    assert (tmp_path / "saved_models/colab_tpu/model.tflite").stat().st_size > 50_000
