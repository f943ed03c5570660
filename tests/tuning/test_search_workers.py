"""Real processes on loopback: a chief and two workers share one search; one that dies costs the trial it was in."""

from __future__ import annotations

import sys
import textwrap

import pytest

from tfbig.errors import InvalidArgument, InvalidFile
from tfbig.tuning import workers as workers_module
from tfbig.tuning.folder import Folder
from tfbig.tuning.log import Log
from tfbig.tuning.tune import tune
from tfbig.tuning.workers import run_in_processes, wait_for

SEARCH = """
import os, signal, sys
import tfbig
from tfbig.pipeline.compress import Run

model_file, data_file, folder = sys.argv[1:]
whole = Run.train

def train(self, stage, model):
    if stage[0].name == "prune" and stage[0].sparsity == 0.9:
        os.kill(os.getpid(), signal.SIGSEGV)
    return whole(self, stage, model)

Run.train = train
space = {"blocks": 1.0, "channels": 1.0, "rank": 1.0, "clusters": 0, "distill": False, "exempt": 0,
         "sparsity": [0.5, 0.7, 0.9], "bits": "float32"}
result = tfbig.search(tfbig.load(model_file), data_file, space=space, trials=3, epochs=1, directory=folder, verbose=0)
name = os.environ.get("KERASTUNER_TUNER_ID", "alone")
with open(f"{folder}-{name}.txt", "w") as file:
    print(*result.files, file=file)
"""


@pytest.mark.parametrize("count", [1, 2])
def test_trial_that_takes_its_process_down_is_one_failed_trial(model_file, digits_file, tmp_path, count):
    folder = tmp_path / "found"
    command = [sys.executable, "-c", SEARCH, str(model_file), str(digits_file), str(folder)]
    assert run_in_processes(command, directory=folder, workers=count) == 0
    trials = {trial.plan: trial for trial in Log(folder / "trials").trials()}
    assert set(trials) == {"prune 0.5", "prune 0.7", "prune 0.9"}
    assert trials["prune 0.9"].reason == "The process was killed by SIGSEGV in the middle of it."
    assert all(trials[name].score is not None for name in ("prune 0.5", "prune 0.7"))
    names = {"alone"} if count == 1 else {"chief", "tuner0", "tuner1"}
    told = {path.stem.removeprefix("found-"): path.read_text() for path in tmp_path.glob("found-*.txt")}
    assert set(told) == names and len(set(told.values())) == 1
    assert all(path.exists() for path in (folder / "files", folder / "best" / "model.tflite", folder / "report.html"))


def test_program_that_ends_outside_of_a_trial_is_not_started_again(tmp_path):
    program = textwrap.dedent("""
        import pathlib, sys
        pathlib.Path(sys.argv[1]).open("a").write("x")
        sys.exit(3)
    """)
    count = tmp_path / "count"
    assert run_in_processes([sys.executable, "-c", program, str(count)], directory=tmp_path / "found") == 3
    assert count.read_text() == "x"


def test_worker_that_waits_in_vain_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(workers_module, "_WAIT", 0.2)
    with pytest.raises(InvalidFile, match=r"The chief has not written .*late\.json` within 0 s"):
        wait_for(tmp_path / "late.json")


def test_several_processes_need_a_folder_and_tune_has_none(monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(InvalidArgument, match="`directory` must be a folder that all workers share, received None"):
        Folder(None, {})
    with pytest.raises(InvalidArgument, match="`tune` runs in one process: KERASTUNER_ORACLE_IP must not be set"):
        tune("mlp", None)
