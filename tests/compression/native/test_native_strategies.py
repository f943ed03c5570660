"""Prepared models on several devices, in big batches made of small ones, and compiled by XLA."""

from __future__ import annotations

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.training.accumulation import cycle

TECHNIQUES = {
    "prune": tfbig.Prune(sparsity=0.75, frequency=1),
    "cluster": tfbig.Cluster(clusters=8),
    "quantize": tfbig.Quantize("int8"),
}
SCRIPT = """
import json
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import tfbig
rng = np.random.default_rng(0)
y = rng.integers(0, 3, 96)
x = (rng.normal(size=(96, 8)) + y[:, None]).astype("float32")

def trained(technique, strategy):
    keras.utils.set_random_seed(0)
    with strategy.scope():
        model = tfbig.models.build("mlp", input_shape=(8,), units=(16, 8), classes=3)
        prepared = technique.prepare(model)
        prepared.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy", jit_compile=False)
        prepared.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
        prepared.save("half.keras")
        return technique.finish(keras.models.load_model("half.keras"))

found = {}
for technique in (tfbig.Prune(sparsity=0.75, frequency=1), tfbig.Cluster(clusters=8), tfbig.Quantize("int8")):
    one, two = trained(technique, tf.distribute.get_strategy()), trained(technique, tf.distribute.MirroredStrategy())
    kernels = [v.numpy() for v in two.weights if v.value.shape.num_elements() > 100]
    found[technique.name] = {
        "difference": float(np.abs(one(x, training=False) - two(x, training=False)).max()),
        "zeros": min(float((k == 0).mean()) for k in kernels),
        "values": max(int(np.unique(k).size) for k in kernels),
        "float_ops": len(tfbig.inspect(tfbig.export(two, technique.name + ".tflite")).float_ops),
    }
print("RESULT" + json.dumps(found))
"""


def test_two_devices_train_as_one(tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("RESULT")[1])
    assert found["prune"]["difference"] < 1e-5 and found["cluster"]["difference"] < 1e-2
    assert found["quantize"]["difference"] < 0.05  # Each device sees the ranges of its half of the batch.
    assert found["prune"]["zeros"] >= 0.75 - 1 / 128
    assert found["cluster"]["values"] <= 8
    assert found["quantize"]["float_ops"] == 0


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 128)
    return (rng.normal(size=(128, 6, 6, 2)) + y[:, None, None, None]).astype("float32"), y


def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = layers.Input((6, 6, 2))
    x = layers.ReLU()(layers.Conv2D(8, 3, padding="same")(inputs))
    return keras.Model(inputs, layers.Dense(3, activation="softmax")(layers.Flatten()(x)))


def trained(name: str, data: tuple, jit_compile: bool, *, ours: bool = False, **options: int) -> keras.Model:
    prepared = TECHNIQUES[name].prepare(network())
    optimizer = keras.optimizers.SGD(0.05, **options)
    prepared.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=jit_compile)
    settings = {"batch_size": 32, "epochs": 3, "shuffle": False, "verbose": 0}
    tfbig.training.fit(prepared, data, **settings) if ours else prepared.fit(*data, **settings)
    return prepared


@pytest.mark.parametrize("name", TECHNIQUES)
def test_xla_computes_the_same(name, data):
    plain, compiled = trained(name, data, False), trained(name, data, True)
    assert compiled.jit_compile
    for one, other in zip(plain.weights, compiled.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=2e-2, err_msg=one.path)
    np.testing.assert_allclose(plain.predict(data[0], verbose=0), compiled.predict(data[0], verbose=0), atol=3e-2)


@pytest.mark.parametrize("name", TECHNIQUES)
def test_gradients_are_accumulated(name, data):
    technique, prepared = TECHNIQUES[name], trained(name, data, False, gradient_accumulation_steps=2)
    assert int(prepared.machines[0].step.numpy()) == 12 and int(prepared.optimizer.iterations.numpy()) == 6
    finished = technique.finish(prepared)
    technique.verify(finished)
    assert np.mean(finished.predict(data[0], verbose=0).argmax(1) == data[1]) > 0.5


@pytest.mark.parametrize("name", TECHNIQUES)
def test_accumulated_batches_that_are_taken_together_change_the_same(name, data):
    """Masks, clusters and ranges are those of one batch after the other."""
    ours, theirs = (trained(name, data, False, ours=ours, gradient_accumulation_steps=4) for ours in (True, False))
    assert cycle(ours) is not None
    for one, other in zip(ours.weights, theirs.weights, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5, err_msg=one.path)
