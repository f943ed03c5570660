"""`kill -9` at random moments: whatever was being done, the next start goes on, and the end is the undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from test_training_checkpoint import BATCHES, EPOCHS, same, train, undisturbed  # noqa: F401

SLOWED = 0.02  # Seconds of a batch, so that there is time to kill in.
CHILD = """
import sys, time
from pathlib import Path
import keras
sys.path.insert(0, {tests!r})
from test_training_checkpoint import train

class Slow(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        print("a batch", flush=True)
        time.sleep({slowed})

train(Path({folder!r}), Slow(), checkpoint_every=1)
"""


def killed_after(seconds: float, folder: Path) -> int:
    """Trains in a process that is killed so long after its first batch, which traces; returns how it ended."""
    code = CHILD.format(tests=str(Path(__file__).parent), folder=str(folder), slowed=SLOWED)
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env={**os.environ})
    with child:
        assert child.stdout is not None and [child.stdout.readline() for _ in range(2)] == 2 * ["a batch\n"]
        time.sleep(seconds)
        child.kill()
        child.stdout.read()
    return child.returncode


def test_killed_at_random_moments_ends_the_same(tmp_path, undisturbed):  # noqa: F811
    whole = EPOCHS * BATCHES * SLOWED
    moments = [random.SystemRandom().uniform(0, share * whole) for share in (0.5, 1.0)]
    ends = [killed_after(seconds, tmp_path) for seconds in moments]
    assert ends[0] == -signal.SIGKILL, moments
    left = [file.name for file in tmp_path.iterdir()]
    print(f"killed {moments} seconds after the first batch, which left {left}")
    same(*train(tmp_path, checkpoint_every=1), undisturbed)
    assert not [file.name for file in tmp_path.iterdir() if file.name.startswith(".")]
