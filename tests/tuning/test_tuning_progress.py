"""What a person sees of a search: a table that lives on a terminal, lines in a pipe, a page in TensorBoard."""

from __future__ import annotations

import io

import pytest
import tensorflow as tf
from rich.console import Console

from tfbig.tuning import progress as progress_module
from tfbig.tuning.log import Trial
from tfbig.tuning.progress import Progress, log_hyperparameters

TRIAL = Trial("0", "prune 0.5", {"sparsity": 0.5, "bits": "int8", "distill": True}, 3, 12.0, score=0.9)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test moves."""
    now = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now[0])
    return now


def test_lines_in_a_pipe_with_the_time_left(clock, capsys):
    with Progress(4, verbose=True, done=1) as progress:
        progress.doing("training prune 0.5")
        clock[0], progress.done = 30.0, 2
        progress.ended(TRIAL, "accuracy 91.00 %", "best so far: this one")
    assert capsys.readouterr().out.splitlines() == [
        "1 of 4 trials were finished before.",
        "Trial 2 of 4: prune 0.5: accuracy 91.00 % (12.0 s)",
        "  best so far: this one; about 60 s left",
    ]


def test_silence_when_asked_for(clock, capsys):
    with Progress(1, verbose=False) as progress:
        progress.ended(TRIAL, "accuracy 91.00 %", "best")
    assert capsys.readouterr().out == ""


def test_table_on_a_terminal_says_what_goes_on(clock, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    monkeypatch.setattr(progress_module, "Console", lambda: console)
    with Progress(3, verbose=True) as progress:
        clock[0], progress.done = 200.0, 1
        progress.ended(TRIAL, "accuracy [91.00] %", "best so far: this one")
        progress.doing("training prune 0.7")
        clock[0] = 205.0
        progress.live.refresh()
    shown = screen.getvalue()
    for text in ("1 of 3 trials", "accuracy [91.00] %", "12.0", "best so far: this one", "training prune 0.7 (5 s)"):
        assert text in shown
    assert "about 7 min left" in shown


def test_hyperparameters_are_there_for_tensorboard(searched, tmp_path):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.plugins.hparams import plugin_data_pb2

    last = searched.front[-1]
    log_hyperparameters(TRIAL, last, tmp_path)
    (file,) = (tmp_path / "0").iterdir()
    values = [value for event in EventFileLoader(str(file)).Load() for value in event.summary.value]
    begun = next(v for v in values if v.tag == "_hparams_/session_start_info")
    told = plugin_data_pb2.HParamsPluginData.FromString(begun.metadata.plugin_data.content).session_start_info
    assert {name: value.WhichOneof("kind") for name, value in told.hparams.items()} == {
        "sparsity": "number_value",
        "bits": "string_value",
        "distill": "bool_value",
    }
    sizes = {v.tag: float(tf.make_ndarray(v.tensor)) for v in values if v.tag in ("quality", "bytes")}
    assert sizes["bytes"] == last.measurement.bytes
    assert sizes["quality"] == pytest.approx(last.measurement.quality)
    assert {path.name for path in (searched.folder / "logs").iterdir()} == {t.number for t in searched.trials}
