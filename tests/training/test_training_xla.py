"""XLA is chosen by trying: where the training is long enough, and where it is faster."""

import time

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.training import fit, xla
from tfbig.training.xla import Trial, worth_trying

X = np.random.default_rng(0).normal(size=(96, 6)).astype("float32")
Y = (X[:, 0] > 0).astype("int64")


def model() -> keras.Model:
    keras.utils.set_random_seed(0)
    made = tfbig.models.build("mlp", input_shape=(6,), units=(8,), classes=2)
    made.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    return made


@pytest.mark.parametrize("plain, with_xla, chosen", [(0.02, 0.002, True), (0.002, 0.02, False)])
def test_the_faster_is_kept(plain, with_xla, chosen, monkeypatch):
    monkeypatch.setattr(xla, "worth_trying", lambda **how_long: True)
    tried = []

    def make():
        mine = made.jit_compile
        tried.append(mine)

        def step(iterator):
            time.sleep(with_xla if mine else plain)
            return {"loss": tf.constant(float(next(iterator)))}

        return step

    made = model()
    trial = Trial(made, make, steps=40)
    steps = iter(range(40))
    assert [float(trial(steps)["loss"]) for _ in range(40)] == list(range(40))
    assert made.jit_compile is chosen and trial.decided
    assert tried == ([False, True] if chosen else [False, True, False])


@pytest.mark.parametrize(
    "tracing, step, steps, worth", [(1.0, 0.01, 100, False), (1.0, 0.01, 10_000, True), (0.1, 1.0, 100, True)]
)
def test_a_training_must_be_long_enough(tracing, step, steps, worth):
    assert worth_trying(tracing=tracing, step=step, steps=steps) is worth


def test_short_trainings_do_not_try_and_no_step_is_lost(monkeypatch):
    trained = []
    for worth in (False, True):
        monkeypatch.setattr(xla, "worth_trying", lambda **how_long: worth)  # noqa: B023 - called in this turn only
        trained.append(model())
        fit(trained[-1], (X, Y), batch_size=8, epochs=2, jit_compile="auto", verbose=0)
        assert int(trained[-1].optimizer.iterations.value) == 24
    assert trained[0].jit_compile is False
    for a, b in zip(trained[0].get_weights(), trained[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_model_that_xla_cannot_compile_trains_without(monkeypatch):
    monkeypatch.setattr(xla, "worth_trying", lambda **how_long: True)

    class Printing(keras.layers.Layer):
        def call(self, x):
            return tf.ensure_shape(tf.py_function(lambda y: y * 1.0, [x], tf.float32), x.shape)

    inputs = keras.Input((6,))
    made = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(Printing()(inputs)))
    history = fit(made, (X, Y), batch_size=8, epochs=2, jit_compile="auto", verbose=0)
    assert made.jit_compile is False and len(history.history["loss"]) == 2
