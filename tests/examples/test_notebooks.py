"""Every notebook runs from top to bottom on a CPU, and prints figures that make sense."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from running import EXAMPLES, run_python

MAGIC = re.compile(r"^\s*[%!].*$", re.MULTILINE)  # what only a notebook understands, such as `%pip install`


def cells_of(name: str) -> list[dict]:
    return json.loads((EXAMPLES / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]


def run_notebook(name: str, folder: Path) -> str:
    code = [MAGIC.sub("", "".join(cell["source"])) for cell in cells_of(name) if cell["cell_type"] == "code"]
    done = run_python(folder, "-c", "\n".join(code), TFBIG_QUICK="1")
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("name", ["quickstart", "compress_your_own"])
def test_notebook_is_kept_without_outputs(name):
    for cell in cells_of(name):
        assert cell["cell_type"] == "markdown" or (cell["outputs"] == [] and cell["execution_count"] is None)


def test_quickstart_notebook(tmp_path):
    told = run_notebook("quickstart", tmp_path)
    assert float(re.findall(r"^share ([\d.]+)$", told, re.MULTILINE)[0]) > 0.85
    assert "int8" in told and (tmp_path / "saved_models/quickstart_notebook/report.html").is_file()


def test_compress_your_own_notebook(tmp_path):
    told = run_notebook("compress_your_own", tmp_path)
    rows = re.findall(r"^(float|dynamic|int8) +accuracy ([\d.]+)  ([\d,]+) bytes", told, re.MULTILINE)
    assert [name for name, _, _ in rows] == ["float", "dynamic", "int8"]
    assert min(float(accuracy) for _, accuracy, _ in rows) > 0.85
    assert int(rows[2][2].replace(",", "")) * 3 < int(rows[0][2].replace(",", ""))
    assert (tmp_path / "saved_models/compressed/model.tflite").is_file()


def test_colab_notebook_falls_back_loudly(tmp_path):
    """All of its cells run, on a machine without a TPU, which they say."""
    told = run_notebook("colab_tpu", tmp_path)
    assert "NO TPU: TRAINING ON THIS MACHINE'S PROCESSOR INSTEAD" in told and "Runtime > Change" in told
    assert float(re.search(r"accuracy (0\.\d+)", told)[1]) > 0.9
    assert (tmp_path / "saved_models/colab_tpu/model.tflite").stat().st_size > 50_000
