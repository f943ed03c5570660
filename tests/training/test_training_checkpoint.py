"""Training that is killed and started again ends with the weights of one that was not."""

import errno
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tfbig
from tfbig.errors import InvalidArgument, InvalidFile
from tfbig.training import checkpoint as checkpoint_module
from tfbig.training import fit
from tfbig.training.checkpoint import Checkpoint, CheckpointFailed, CheckpointFolder
from tfbig.training.state import Position

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(80, 6)).astype("float32")
Y = (X[:, 0] + X[:, 1] > 0).astype("int64")
EPOCHS, BATCHES = 4, 10


class Stop(Exception):
    """Stands in for a crash."""


class StopAt(keras.callbacks.Callback):
    def __init__(self, step: int):
        super().__init__()
        self.left = step

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if self.left < 0:
            raise Stop


def train(folder: Path | None, *callbacks: keras.callbacks.Callback, **options) -> tuple[keras.Model, object]:
    """Training with all that has a state: dropout, momentum, schedule, accumulation, averages, early stopping."""
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("mlp", input_shape=(6,), units=(8,), classes=2, dropout=0.3)
    settings = {
        "epochs": EPOCHS,
        "batch_size": 8,
        "validation_data": (X[:16], Y[:16]),
        "optimizer": "adamw",
        "schedule": "cosine",
        "warmup": 0.2,
        "accumulate": 2,
        "ema": 0.9,
        "early_stopping": 3,
        "checkpoint": folder,
        "checkpoint_every": 3,
        "verbose": 0,
    }
    return model, fit(model, (X, Y), callbacks=callbacks, **{**settings, **options})


@pytest.fixture(scope="module")
def undisturbed() -> tuple[list[np.ndarray], dict]:
    model, history = train(None)
    return model.get_weights(), history.history


def same(model: keras.Model, history, undisturbed) -> None:
    for now, wanted in zip(model.get_weights(), undisturbed[0], strict=True):
        np.testing.assert_array_equal(now, wanted)
    assert history.history == undisturbed[1]
    assert history.epoch == list(range(EPOCHS))


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps=st.lists(st.integers(0, EPOCHS * BATCHES - 1), min_size=1, max_size=2))
def test_stopped_anywhere_and_started_again(steps, undisturbed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in steps:
        try:
            train(folder, StopAt(step))
        except Stop:
            pass
    same(*train(folder), undisturbed)


def test_mixed_precision_resumes_with_its_loss_scale(tmp_path):
    whole, _ = train(None, precision="mixed_float16")
    with pytest.raises(Stop):
        train(tmp_path, StopAt(17), precision="mixed_float16")
    resumed, _ = train(tmp_path, precision="mixed_float16")
    for now, wanted in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(now, wanted)


def test_a_finished_training_is_not_done_twice(tmp_path, undisturbed):
    train(tmp_path)
    model, history = train(tmp_path, StopAt(0))
    same(model, history, undisturbed)


def test_more_epochs_go_on_where_the_last_ended(tmp_path):
    train(tmp_path, epochs=2, schedule=None, warmup=0.0)
    model, history = train(tmp_path, epochs=4, schedule=None, warmup=0.0)
    whole, _ = train(None, epochs=4, schedule=None, warmup=0.0)
    assert history.epoch == [0, 1, 2, 3]
    # The average of the weights replaced them when the first training ended, but its checkpoint was before that.
    for now, wanted in zip(model.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(now, wanted)


KILLED = """
import os, signal, sys
import numpy as np
sys.path.insert(0, {tests!r})
import test_training_checkpoint as t
from tfbig.training import checkpoint
whole, count = np.savez, 0

def dying(target, **arrays):
    global count
    count += 1
    whole(target, **arrays)
    if count == {write}:
        os.truncate(target, os.path.getsize(target) // 2)
        os.kill(os.getpid(), signal.SIGKILL)

checkpoint.np.savez = dying
t.train(t.Path({folder!r}))
"""


def test_kill_minus_nine_in_the_middle_of_a_write(tmp_path, undisturbed):
    folder = tmp_path / "checkpoints"
    code = KILLED.format(tests=str(Path(__file__).parent), folder=str(folder), write=6)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
    assert len(CheckpointFolder(folder).files()) == 3
    same(*train(folder), undisturbed)


def test_full_disk_is_an_error_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    with pytest.raises(Stop):
        train(tmp_path, StopAt(7))
    before = {file: file.read_bytes() for file in CheckpointFolder(tmp_path).files()}

    def full(target, **arrays):
        Path(target).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint_module.np, "savez", full)
    with pytest.raises(CheckpointFailed, match="could not be written: No space left on device.*make space"):
        train(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_keeps_the_last_ones(tmp_path):
    train(tmp_path, keep=2)
    names = [file.name for file in CheckpointFolder(tmp_path).files()]
    assert names == ["epoch000003-batch000000009.npz", "epoch000004-batch000000000.npz"]


def test_a_damaged_checkpoint_is_passed_over(tmp_path, undisturbed):
    with pytest.raises(Stop):
        train(tmp_path, StopAt(25))
    newest = CheckpointFolder(tmp_path).files()[-1]
    newest.write_bytes(newest.read_bytes()[:-200])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        same(*train(tmp_path), undisturbed)
    assert any("is damaged and was passed over" in str(warning.message) for warning in caught)


def test_only_damaged_checkpoints(tmp_path):
    for batch in (3, 6):
        (tmp_path / f"epoch000000-batch{batch:09d}.npz").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(InvalidFile, match="None of the 2 checkpoints"):
        CheckpointFolder(tmp_path).latest()


def test_checkpoint_of_another_model(tmp_path):
    train(tmp_path)
    other = tfbig.models.build("mlp", input_shape=(6,), units=(9,), classes=2)
    with pytest.raises(InvalidFile, match="belongs to another model or optimizer.*variables differ.*another folder"):
        fit(other, (X, Y), checkpoint=tmp_path, verbose=0)


def test_reduced_precision_variables_survive(tmp_path):
    import ml_dtypes

    arrays = {"model/0": np.arange(4).astype(ml_dtypes.bfloat16), "model/1": np.float32(3.5)[None]}
    folder = CheckpointFolder(tmp_path)
    folder.write(Checkpoint(Position(1, 2), arrays, {"loss": [1.0]}, [{"best": np.float32(2.0), "wait": 1}]))
    found = folder.latest()
    assert found.position == Position(1, 2) and found.memories == [{"best": 2.0, "wait": 1}]
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)


@pytest.mark.parametrize(
    "options, text",
    [({"keep": 0}, "`keep` must be a whole number of at least 1, received 0"), ({}, "`checkpoint` must be a folder")],
)
def test_errors_name_the_argument(options, text, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidArgument, match=text):
        fit(tfbig.models.build("mlp", input_shape=(6,)), (X, Y), checkpoint=tmp_path / "file", verbose=0, **options)


def test_stopped_between_the_last_batch_and_the_end_of_an_epoch(tmp_path, undisturbed):
    class StopAtTheEnd(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.batch = batch

        def on_test_begin(self, logs=None):
            if self.batch == BATCHES - 1:
                raise Stop

    with pytest.raises(Stop):
        train(tmp_path, StopAtTheEnd(), checkpoint_every=BATCHES)
    same(*train(tmp_path, checkpoint_every=BATCHES), undisturbed)
