"""Two processes on loopback train as one does; Keras's own fit fails there."""

import json
import os
import socket
import subprocess
import sys

SCRIPT = """
import json, sys
from pathlib import Path
import tfbig
alone = sys.argv[1] == "alone"
several = "none" if alone else tfbig.training.strategy("multiworker")
import keras, numpy as np, tensorflow as tf
keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
data = tf.data.Dataset.from_tensor_slices((x, (x[:, 0] > 0).astype("int64"))).batch(16)
model = tfbig.models.build("mlp", input_shape=(6,), units=(8,), classes=2)
folder = Path(sys.argv[2])
history = tfbig.training.fit(
    model, data, epochs=3, strategy=several, validation_data=data, checkpoint=folder, logs=folder / "logs", verbose=0)
again = tfbig.models.build("mlp", input_shape=(6,), units=(8,), classes=2)
resumed = tfbig.training.fit(again, data, epochs=3, strategy=several, checkpoint=folder, verbose=0)
same = all((a == b).all() for a, b in zip(model.get_weights(), again.get_weights()))
weights = [w.tolist() for w in model.get_weights()]
print("RESULT" + json.dumps({"history": history.history, "weights": weights, "resumed": same}))
"""


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def start(argument: str, folder, config: dict | None) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if key != "TF_CONFIG"}
    if config:
        environment["TF_CONFIG"] = json.dumps(config)
    command = [sys.executable, "-c", SCRIPT, argument, str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(process: subprocess.Popen) -> dict:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.split("RESULT")[1])


def largest_difference(a, b) -> float:
    if isinstance(a, list):
        return max(largest_difference(x, y) for x, y in zip(a, b, strict=True))
    return abs(a - b)


def test_two_workers_give_the_losses_and_weights_of_one(tmp_path):
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    tasks = [{"cluster": cluster, "task": {"type": "worker", "index": index}} for index in range(2)]
    shared = tmp_path / "shared"
    workers = [start(str(index), shared, task) for index, task in enumerate(tasks)]
    found = [result(worker) for worker in workers]
    one = result(start("alone", tmp_path / "alone", None))
    for worker in found:
        assert worker["history"].keys() == one["history"].keys()
        for name, values in one["history"].items():
            assert largest_difference(worker["history"][name], values) < 1e-5
        assert largest_difference(worker["weights"], one["weights"]) < 1e-5
        assert worker["resumed"]
    assert len((shared / "logs" / "history.csv").read_text().splitlines()) == 4
    assert len(list(shared.glob("epoch*.npz"))) == 3
