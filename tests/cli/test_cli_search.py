"""`tfbig search` and `tfbig tune` on the command line."""

from __future__ import annotations

import json

import pytest

SPACE = (
    "blocks=1.0",
    "channels=1.0",
    "rank=1.0",
    "clusters=0",
    "distill=false",
    "exempt=0",
    "sparsity=[0.0]",
    "bits=[int8]",
)


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs the command here, where TensorFlow is loaded already, not in a process of its own."""
    monkeypatch.setattr("tfbig.cli.main.is_to_be_watched", lambda arguments: False)


def test_search(in_this_process, tfbig_command, model_file, digits_file, tmp_path):
    options = ("--data", digits_file, "--out", "found", "--trials", 1, "--epochs", 1, "--space", *SPACE)
    outcome = tfbig_command("search", model_file, *options, "--budget", "max_bytes=9000", "max_drop=1.0")
    assert (outcome.code, outcome.err) == (0, "")
    assert "Trial 1 of 1: quantize int8: accuracy" in outcome.out
    assert outcome.out.endswith("The best is quantize int8. The files, best/ and report.html are in found\n")
    again = tfbig_command("search", model_file, *options, "--budget", "max_bytes=9000", "max_drop=1.0", "--json")
    values = json.loads(again.out)
    assert values["best"] in values["files"] and (tmp_path / values["best"]).stat().st_size <= 9000
    assert values["report"] == json.loads((tmp_path / "found" / "report.json").read_text())
    page = (tmp_path / "found" / "report.html").read_text()
    told = tfbig_command("report", "found").out
    assert "quantize int8" in told and "The page of this search, found/report.html, stays as it is" in told
    assert (tmp_path / "found" / "report.html").read_text() == page


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--budget", "max_byte=1"), 2, "Unknown limit in `budget`: 'max_byte'"),
        (
            ("--budget", "max_bytes=[", "--space", *SPACE),
            2,
            "`--budget` must be KEY=VALUE, such as max_bytes=70000, received 'max_bytes=['",
        ),
        (("--objective", "bytes"), 2, "`objective`='bytes' without a limit on quality"),
        (("--budget", "70000"), 2, "`--budget` must be KEY=VALUE, such as max_bytes=70000, received '70000'"),
        (("--budget", "max_bytes=100", "--space", *SPACE), 1, "No recipe can meet `budget`"),
    ],
)
def test_bad_budgets(in_this_process, tfbig_command, model_file, digits_file, options, code, text):
    outcome = tfbig_command("search", model_file, "--data", digits_file, "--out", "found", "--quiet", *options)
    assert outcome.code == code and text in outcome.err and outcome.out == ""


def test_workers_below_one(tfbig_command):
    outcome = tfbig_command("search", "m.keras", "--data", "digits", "--out", "found", "--workers", 0)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "tfbig: `--workers` must be a whole number of at least 1, received 0.\n"


def test_folder_of_another_search_is_refused(in_this_process, tfbig_command, model_file, digits_file, tmp_path):
    other_search(tmp_path / "found")
    outcome = tfbig_command("search", model_file, "--data", digits_file, "--out", "found", "--quiet")
    assert (outcome.code, outcome.out) == (1, "")
    assert "`directory` 'found' holds a search with another model. Give the same model to go on with it" in outcome.err


def test_folder_of_another_search_is_replaced_by_a_process_of_its_own(tfbig_command, model_file, digits_file, tmp_path):
    other_search(tmp_path / "found")
    options = ("--data", digits_file, "--out", "found", "--trials", 1, "--epochs", 1, "--space", *SPACE, "--overwrite")
    outcome = tfbig_command("search", model_file, *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Trial 1 of 1: quantize int8: accuracy" in outcome.out
    assert (tmp_path / "found" / "best" / "model.tflite").exists() and not (tmp_path / "found.before").exists()


def other_search(folder):
    folder.mkdir()
    (folder / "search.json").write_text('{"model": "another"}')


def test_tune(in_this_process, tfbig_command, digits_file, tmp_path):
    space = ("optimizer=adam", "rate=1.0", "schedule=cosine", "units=[[8]]")
    options = ("--data", digits_file, "--out", "tuned", "--trials", 1, "--epochs", 1, "--seeds", 2, "--space", *space)
    outcome = tfbig_command("tune", "mlp", *options)
    assert (outcome.code, outcome.err) == (0, "")
    assert "Range test: adam" in outcome.out and "Trial 1 of 1: optimizer=adam" in outcome.out
    assert "Take adam at" in outcome.out and outcome.out.endswith("\nThe model is tuned/best.keras\n")
    again = json.loads(tfbig_command("tune", "mlp", *options, "--json").out)
    assert again["verdict"].startswith("Take adam at") and len(again["rows"][0]["qualities"]) == 2
    assert (tmp_path / "tuned" / "best.keras").exists()
