"""A search that is killed goes on where it was; a trial that always takes the process down is one failed trial."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import tfbig
from tfbig.tuning.log import Log, bury

SCRIPT = """
import sys
import tfbig

model_file, data_file, folder = sys.argv[1:]
model = tfbig.load(model_file)
space = {"blocks": 1.0, "channels": 1.0, "rank": 1.0, "clusters": 0, "distill": False, "exempt": 0,
         "sparsity": [0.0, 0.6], "bits": ["float32", "int8"]}
result = tfbig.search(model, data_file, space=space, trials=3, epochs=1, directory=folder)
print("FILES", *result.files)
"""


def start(model_file, digits_file, folder):
    command = [sys.executable, "-u", "-c", SCRIPT, str(model_file), str(digits_file), str(folder)]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(tfbig.__file__))}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_search_goes_on_without_repeating_finished_trials(model_file, digits_file, tmp_path):
    folder = tmp_path / "search"
    running = start(model_file, digits_file, folder)
    first = folder / "trials" / "0.json"
    deadline = time.monotonic() + 240
    while not first.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    before = first.stat().st_mtime_ns
    out, err = start(model_file, digits_file, folder).communicate(timeout=300)
    assert "1 of 3 trials were finished before." in out and "FILES" in out, err
    assert first.stat().st_mtime_ns == before
    trials = Log(folder / "trials").trials()
    assert [trial.number for trial in trials] == ["0", "1", "2"] and all(trial.score is not None for trial in trials)
    assert all(os.path.exists(path) for path in out.split("FILES ")[1].split())


def test_trial_that_two_processes_died_in_is_given_up(tmp_path):
    log = Log(tmp_path / "trials")
    assert [log.begin("0") for _ in range(3)] == [None, None, "The process died in the middle of it 2 times."]
    log.forgive("0")
    assert log.begin("0") is None


def test_trial_of_a_process_whose_death_was_seen_is_given_up_at_once(tmp_path):
    log = Log(tmp_path / "trials")
    assert log.begin("3") is None
    assert not bury(tmp_path / "trials", os.getpid() + 1, "was killed by SIGSEGV")
    assert not bury(tmp_path / "elsewhere", os.getpid(), "was killed by SIGSEGV")
    assert bury(tmp_path / "trials", os.getpid(), "was killed by SIGSEGV")
    assert log.begin("3") == "The process was killed by SIGSEGV in the middle of it."
    log.forgive("3")
    assert list((tmp_path / "trials").iterdir()) == []


def test_a_trial_that_never_ends_fails_and_the_others_run(small_model, fresh_digits, search_options, tmp_path):
    folder = tmp_path / "search"
    options = {**search_options, "trials": 2, "directory": folder}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr("tfbig.pipeline.compress.Run.run", lambda *_: sys.exit("as good as dead"))
        tfbig.search(small_model, fresh_digits(), **options)
    begun = folder / "trials" / "0.begun"
    assert begun.read_text() == f"{os.getpid()}\n"
    begun.write_text("1\n2\n")
    result = tfbig.search(small_model, fresh_digits(), **options)
    assert [trial.score is None for trial in result.trials] == [True, False]
    assert result.trials[0].reason == "The process died in the middle of it 2 times."
