"""Workers that are killed are started again, and the job ends as if nothing had happened."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tfbig.errors import InvalidArgument
from tfbig.training import launch
from tfbig.training.launch import WorkersFailed

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import tfbig
strategy = tfbig.training.strategy("multiworker")
import keras, numpy as np, tensorflow as tf
folder, victim = Path(sys.argv[1]), int(sys.argv[2])
me = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
killed = folder / "killed"

class Die(keras.callbacks.Callback):
    steps = 0
    def on_train_batch_begin(self, batch, logs=None):
        self.steps += 1
        if me == victim and self.steps == 7 and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
data = tf.data.Dataset.from_tensor_slices((x, (x[:, 0] > 0).astype("int64"))).shuffle(64, seed=1).batch(16)
model = tfbig.models.build("mlp", input_shape=(6,), units=(8,), classes=2, dropout=0.2)
history = tfbig.training.fit(model, data, epochs=3, strategy=strategy, optimizer="momentum", checkpoint=folder,
                             checkpoint_every=2, callbacks=[Die()], verbose=0)
if me == 0:
    np.savez(folder / "result.npz", losses=history.history["loss"], *model.get_weights())
"""


def trained(folder, victim: int) -> tuple[int, list[np.ndarray]]:
    folder.mkdir()
    restarts = launch([sys.executable, "-c", SCRIPT, str(folder), str(victim)], workers=2)
    with np.load(folder / "result.npz") as arrays:
        return restarts, [arrays[name] for name in arrays.files]


def test_a_killed_worker_is_started_again_and_the_weights_are_the_same(tmp_path, capfd):
    undisturbed = trained(tmp_path / "undisturbed", victim=-1)[1]
    again, arrays = trained(tmp_path / "job", victim=1)
    assert again == 1
    assert "Worker 1 was killed by SIGKILL. Starting again: 1 of 3" in capfd.readouterr().out
    assert len(arrays) == len(undisturbed) == 5
    for now, wanted in zip(arrays, undisturbed, strict=True):
        np.testing.assert_allclose(now, wanted, rtol=0, atol=1e-7)


def test_each_worker_knows_its_place(tmp_path):
    code = f"import json, os; c = json.loads(os.environ['TF_CONFIG']); i = c['task']['index']; \
        open(r'{tmp_path}/' + str(i), 'w').write(json.dumps(c))"
    assert launch([sys.executable, "-c", code], workers=3) == 0
    configs = [json.loads((tmp_path / str(index)).read_text()) for index in range(3)]
    assert [config["task"] for config in configs] == [{"type": "worker", "index": index} for index in range(3)]
    assert len(set(configs[0]["cluster"]["worker"])) == 3
    assert configs[0]["cluster"] == configs[1]["cluster"] == configs[2]["cluster"]


def test_workers_end_with_the_program_that_launched_them(tmp_path):
    alive = f"import os, time; open(r'{tmp_path}/' + str(os.getpid()), 'w'); time.sleep(600)"
    code = f"import sys; from tfbig.training.launch import launch; launch([sys.executable, '-c', {alive!r}], workers=2)"
    launcher = subprocess.Popen([sys.executable, "-c", code])
    while len(list(tmp_path.iterdir())) < 2 and launcher.poll() is None:
        time.sleep(0.1)
    launcher.terminate()
    assert launcher.wait(timeout=120) == 128 + signal.SIGTERM
    for worker in tmp_path.iterdir():
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker.name), 0)


def test_workers_that_always_die_end_with_what_they_said(tmp_path):
    counter = tmp_path / "counter"
    code = f"open(r'{counter}', 'a').write('x'); raise SystemExit('no such data')"
    with pytest.raises(WorkersFailed, match="(?s)Started 3 times. Worker 0 ended with exit code 1.*no such data"):
        launch([sys.executable, "-c", code], workers=1, restarts=2)
    assert counter.read_text() == "xxx"


@pytest.mark.parametrize(
    "command, options, text",
    [
        ([sys.executable], {"workers": 0}, "`workers` must be a whole number of at least 1, received 0"),
        ([sys.executable], {"restarts": -1}, "`restarts` must be a whole number of at least 0"),
        (["no-such-program"], {}, "`command` must start a program, received .*begin with sys.executable"),
    ],
)
def test_errors_name_the_argument(command, options, text):
    with pytest.raises(InvalidArgument, match=text):
        launch(command, **options)
