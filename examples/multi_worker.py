"""Several processes train one model together, and survive the death of one.

    python examples/multi_worker.py [--quick]

Starts two workers on this machine. In the second epoch one of them kills itself; all are started again, go on from
the last checkpoint, and end with the losses of a training that nobody disturbed. On machines of your own, set
TF_CONFIG on each and start the same training program there. Checkpoints are in saved_models/multi_worker.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tfbig

FOLDER = Path("saved_models/multi_worker")


def main(quick: bool) -> None:
    """Trains twice, undisturbed and disturbed, and compares."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    losses = {}
    for name in ("undisturbed", "disturbed"):
        (FOLDER / name).mkdir(parents=True)
        command = [sys.executable, __file__, "--worker", str(FOLDER / name), *(["--quick"] if quick else [])]
        restarts = tfbig.training.launch(command, workers=2, restarts=1)
        losses[name] = json.loads((FOLDER / name / "losses.json").read_text())
        shown = " ".join(f"{loss:.6f}" for loss in losses[name])
        print(f"{name}: started again {restarts} times, losses {shown}", flush=True)
    print(f"the same training: {losses['disturbed'] == losses['undisturbed']}")


def work(folder: Path, epochs: int) -> None:
    """What each worker does."""
    strategy = tfbig.training.strategy("multiworker")  # Before anything else of TensorFlow.
    import keras

    class Accident(keras.callbacks.Callback):
        """Kills the second worker, once, in the middle of an epoch."""

        epoch = 0

        def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
            self.epoch = epoch

        def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
            happened = folder / "accident"
            now = (self.epoch, batch) == (1, 20)
            if folder.name == "disturbed" and worker == 1 and now and not happened.exists():
                happened.touch()
                os.kill(os.getpid(), signal.SIGKILL)

    worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    data = tfbig.data.load("digits")
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("mlp", input_shape=data.spec.input_shape, units=(64,))
    history = tfbig.training.fit(
        model, data, epochs=epochs, strategy=strategy, checkpoint=folder, callbacks=[Accident()], verbose=0
    )
    if worker == 0:  # Only the first one writes.
        (folder / "losses.json").write_text(json.dumps(history.history["loss"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs: under a minute")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker, epochs=3 if options.quick else 10)
    else:
        main(options.quick)
