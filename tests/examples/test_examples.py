"""Every example says what it does and what it lacks; the two shortest run."""

from __future__ import annotations

import ast
import os
import re

import pytest
from running import EXAMPLES, accuracies, run, run_quick

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))
MISSING = [
    ("dqn", "gymnasium", "dqn.py needs Gymnasium: pip install gymnasium"),
    ("translate", "sacrebleu", "translate.py needs sacrebleu: pip install sacrebleu"),
]


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


@pytest.mark.parametrize(("name", "package", "line"), MISSING)
def test_a_missing_package_is_named(name, package, line, tmp_path):
    hide = f"import runpy, sys; sys.modules['{package}'] = None; sys.argv = sys.argv[1:]; "
    done = run(name, tmp_path, python=("-c", hide + "runpy.run_path(sys.argv[0], run_name='__main__')"))
    assert done.returncode == 1 and line in done.stderr and "Traceback" not in done.stderr
