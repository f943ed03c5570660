"""Distillation together with pruned and quantized students, half precision, and several devices."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
from distill_models import cnn, images, same, soft_targets, state

from tfbig.compression.distillation import heads, taps
from tfbig.compression.techniques.distill import Distill
from tfbig.compression.techniques.prune import Prune
from tfbig.compression.techniques.quantize import Quantize

LOSS = "sparse_categorical_crossentropy"


def trained(techniques, student, x, y, epochs=3):
    model = student
    for technique in techniques:
        model = technique.prepare(model)
    model.compile(keras.optimizers.Adam(0.01), LOSS, metrics=["accuracy"])
    model.fit(x, y, epochs=epochs, batch_size=16, verbose=0)
    return model


def test_a_pruned_student_is_taught_and_stays_pruned():
    x, y = images()
    teacher, student = cnn(8), cnn()
    before = state(student)
    techniques = Prune(sparsity=0.75, end=0.5), Distill(teacher=teacher, features=["relu0"])
    prepared = trained(techniques, student, x, y)
    assert int(prepared.machines[0].total_steps.numpy()) == 12
    pruned = techniques[0].finish(techniques[1].finish(prepared))
    assert type(pruned) is type(student) and same(state(student), before)
    for layer in ("conv1", "scores"):
        zeros = np.mean(pruned.get_layer(layer).get_weights()[0] == 0)
        assert zeros == pytest.approx(0.75, abs=0.01)


def test_a_quantized_student_is_taught_by_its_rounded_self():
    x, y = images()
    techniques = Quantize("int8"), Distill(teacher=cnn(8), features=["relu0"], attention=["relu1"])
    prepared = trained(techniques, cnn(), x, y)
    assert heads.activations(prepared.student) == ["softmax"]
    finished = techniques[1].finish(prepared)
    levels = finished.predict(x, verbose=0) * 256
    assert np.allclose(levels, np.round(levels), atol=1e-3)


def test_the_loss_of_a_quantized_student_is_that_of_its_probabilities():
    x, y = images(16)
    teacher = cnn(8, seed=1)
    prepared = Distill(teacher=teacher, alpha=1.0).prepare(Quantize("int8").prepare(cnn(seed=2)))
    prepared.compile("sgd", LOSS)
    for _ in range(2):
        predictions = prepared(x, training=True)
    loss = float(prepared.compute_loss(x=x, y=y, y_pred=predictions, training=True))
    expected = soft_targets(*(np.log(np.asarray(p)) for p in (teacher(x), predictions)), 4.0)
    assert loss == pytest.approx(expected, rel=1e-3)


def test_a_layer_gives_its_activation_though_quantization_takes_it_off():
    x, _ = images(16)
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(4, 3, activation="relu", name="hidden")(inputs)
    student = keras.Model(inputs, keras.layers.Dense(10, "softmax")(keras.layers.Flatten()(hidden)))
    expected = np.asarray(keras.Model(inputs, hidden)(x))
    prepared = Quantize("int8").prepare(student)
    with taps.record(prepared, ["hidden"]) as found:
        prepared(x, training=True)
    assert np.min(found["hidden"]) == 0
    assert np.allclose(found["hidden"], expected, atol=0.1)


def test_pruned_and_quantized_and_saved_in_the_middle(tmp_path):
    x, y = images()
    techniques = Prune(sparsity=0.5), Quantize("int8"), Distill(teacher=cnn(8), features=["relu0"])
    prepared = trained(techniques, cnn(), x, y, epochs=1)
    prepared.save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    for model in (prepared, loaded):
        model.fit(x, y, verbose=0, shuffle=False)
    assert same(state(loaded), state(prepared))
    assert np.array_equal(loaded.predict(x, verbose=0), prepared.predict(x, verbose=0))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_a_student_in_half_precision_and_a_teacher_in_float32(policy):
    x, y = images(128)
    teacher = cnn(8, activation=None)
    before = state(teacher)
    keras.config.set_dtype_policy(policy)
    try:
        student = cnn()
    finally:
        keras.config.set_dtype_policy("float32")
    prepared = Distill(teacher=teacher, features=["relu0"], attention=["relu1"]).prepare(student)
    assert prepared.own_teachers[0].compute_dtype == "float32"
    prepared.compile(keras.optimizers.Adam(0.01), LOSS)
    scaled = isinstance(prepared.optimizer, keras.optimizers.LossScaleOptimizer)
    assert scaled == (policy == "mixed_float16")
    history = prepared.fit(x, y, epochs=4, verbose=0).history
    assert np.all(np.isfinite(history["loss"])) and history["loss"][-1] < history["loss"][0]
    assert same(state(teacher), before)
    assert prepared.student.get_layer("relu0").compute_dtype == policy.removeprefix("mixed_")


@pytest.mark.parametrize("compiled", [True, False])
def test_with_and_without_xla(compiled):
    x, y = images(32)
    prepared = Distill(teacher=cnn(8), features=["relu0"], attention=["relu1"]).prepare(cnn())
    prepared.compile("sgd", LOSS, jit_compile=compiled)
    assert np.isfinite(prepared.fit(x, y, verbose=0).history["loss"][0])


SCRIPT = """
import json, sys
sys.path.insert(0, {folder!r})
import keras, numpy as np, tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from distill_models import cnn, images, same, state
from tfbig.compression.techniques.distill import Distill
from tfbig.compression.techniques.prune import Prune
x, y = images(64)
dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
teacher = cnn(8, seed=1)
before = state(teacher)
inputs = keras.Input((8, 8, 1))
flat = keras.layers.Flatten(name="flat")(inputs)
student = keras.Model(inputs, keras.layers.Dense(10, "softmax", name="scores")(flat))
technique = Distill(teacher=teacher)

def losses(strategy, cached=False):
    with strategy.scope():
        prepared = technique.prepare(student)
        prepared.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    data = technique.cache(dataset) if cached else dataset
    history = prepared.fit(data, epochs=2, shuffle=False, verbose=0).history
    return history, prepared.evaluate(dataset, verbose=0), technique.finish(prepared).get_weights()

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
one, two, cached = losses(tf.distribute.get_strategy()), losses(mirrored), losses(mirrored, cached=True)
with mirrored.scope():
    both = Distill(teacher=teacher, features=["relu0"], attention=["relu1"]).prepare(Prune(0.5).prepare(cnn(4)))
    both.compile("adam", "sparse_categorical_crossentropy")
history = both.fit(dataset, epochs=2, shuffle=False, verbose=0).history
print("RESULT" + json.dumps({{
    "replicas": mirrored.num_replicas_in_sync,
    "one": one[0], "two": two[0], "cached": cached[0], "evaluated": [one[1], two[1]],
    "weights": [max(float(np.abs(a - b).max()) for a, b in zip(one[2], other[2])) for other in (two, cached)],
    "teacher": same(state(teacher), before), "features": history["loss"],
}}))
"""


def test_two_devices_train_as_one(request):
    script = SCRIPT.format(folder=str(request.path.parent))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.split("RESULT")[1])
    assert found["replicas"] == 2 and found["teacher"]
    assert max(found["weights"]) < 1e-5
    for name, values in found["one"].items():
        assert found["two"][name] == pytest.approx(values, rel=1e-4), name
        assert found["cached"][name] == pytest.approx(values, rel=1e-4), name
    assert found["evaluated"][1] == pytest.approx(found["evaluated"][0], rel=1e-4)
    assert found["features"][1] < found["features"][0]
