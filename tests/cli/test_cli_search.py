"""`tfbig search` on the command line."""

from __future__ import annotations

import json

import pytest

SPACE = ("channels=1.0", "rank=1.0", "clusters=0", "distill=false", "exempt=0", "sparsity=[0.0]", "bits=[int8]")


def test_search(tfbig_command, model_file, digits_file, tmp_path):
    options = ("--data", digits_file, "--out", "found", "--trials", 1, "--epochs", 1, "--space", *SPACE)
    outcome = tfbig_command("search", model_file, *options, "--budget", "max_bytes=9000", "max_drop=1.0")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Trial 1 of 1: quantize int8: accuracy" in outcome.out
    assert outcome.out.endswith("The best is quantize int8. The files, best/ and report.html are in found\n")
    again = tfbig_command("search", model_file, *options, "--budget", "max_bytes=9000", "max_drop=1.0", "--json")
    values = json.loads(again.out)
    assert values["best"] in values["files"] and (tmp_path / values["best"]).stat().st_size <= 9000
    assert values["report"] == json.loads((tmp_path / "found" / "report.json").read_text())


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--budget", "max_byte=1"), 2, "Unknown limit in `budget`: 'max_byte'"),
        (("--budget", "70000"), 2, "`--budget` must be KEY=VALUE, such as max_bytes=70000, received '70000'"),
        (("--budget", "max_bytes=100", "--space", *SPACE), 1, "No recipe can meet `budget`"),
    ],
)
def test_bad_budgets(tfbig_command, model_file, digits_file, options, code, text):
    outcome = tfbig_command("search", model_file, "--data", digits_file, "--out", "found", "--quiet", *options)
    assert outcome.code == code and text in outcome.err and outcome.out == ""
