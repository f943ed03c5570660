"""Several devices give the weights of one; in a process of its own, since devices are set before TensorFlow starts."""

import json
import subprocess
import sys

SCRIPT = """
import json
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import tfbig
x = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
y = (x[:, 0] > 0).astype("int64")

def trained(**options):
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("mlp", input_shape=(6,), units=(8, 4), classes=2)
    history = tfbig.training.fit(model, (x, y), epochs=3, batch_size=16, validation_data=(x, y), verbose=0, **options)
    return model, history

one, history = trained()
results = {}
mirrored = tfbig.training.strategy("mirrored")
results["replicas"] = mirrored.num_replicas_in_sync
for name, options in {
    "mirrored": {"strategy": mirrored},
    "half": {"strategy": mirrored, "precision": "mixed_float16"},
    "schedule": {"strategy": mirrored, "schedule": "cosine", "warmup": 0.2, "clip_norm": 1.0, "ema": 0.9},
}.items():
    two, logs = trained(**options)
    results[name] = {
        "difference": max(float(np.abs(a - b).max()) for a, b in zip(one.get_weights(), two.get_weights())),
        "losses": logs.history["loss"], "one": history.history["loss"], "val": "val_loss" in logs.history,
        "evaluates": float(two.evaluate(x, y, verbose=0)[0]), "model": logs.model is two,
    }
with mirrored.scope():
    inside = tfbig.models.build("mlp", input_shape=(6,), units=(8, 4), classes=2)
tfbig.training.fit(inside, (x, y), strategy=mirrored, batch_size=16, verbose=0)
results["inside"] = int(inside.optimizer.iterations.numpy())
try:
    tfbig.training.fit(inside, (x, y), strategy=mirrored, accumulate=2, verbose=0)
except tfbig.errors.InvalidArgument as error:
    results["refused"] = str(error)
print("RESULT" + json.dumps(results))
"""


def test_two_devices_give_the_weights_of_one():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("RESULT")[1])
    assert found["replicas"] == 2
    assert found["mirrored"]["difference"] < 1e-5
    assert found["refused"].startswith("`accumulate`=2 cannot go with `strategy` on 2 devices")
    for before, after in zip(found["mirrored"]["one"], found["mirrored"]["losses"], strict=True):
        assert abs(before - after) < 1e-5
    for name in ("mirrored", "half", "schedule"):
        assert found[name]["val"] and found[name]["model"]
        assert found[name]["losses"][-1] < found[name]["losses"][0]
        assert found[name]["evaluates"] < found[name]["losses"][0]
    assert found["inside"] == 4
