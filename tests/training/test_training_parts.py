"""Each part of training alone: losses, schedules, optimizers, precision, strategies."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tfbig
from tfbig.errors import InvalidArgument
from tfbig.training import SmoothedSparseCategoricalCrossentropy, fit, optimizer, precision, schedule, strategy
from tfbig.training.optimizer import _CLASSES


@pytest.mark.parametrize("from_logits", [True, False])
@settings(max_examples=20, deadline=None)
@given(smoothing=st.floats(0, 0.9), seed=st.integers(0, 99))
def test_smoothing_is_keras_smoothing_of_one_hot_labels(from_logits, smoothing, seed):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(5, 4)).astype("float32")
    scores = logits if from_logits else np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = random.integers(0, 4, 5)
    ours = SmoothedSparseCategoricalCrossentropy(smoothing, from_logits)(labels, scores)
    theirs = keras.losses.CategoricalCrossentropy(from_logits=from_logits, label_smoothing=smoothing)
    np.testing.assert_allclose(float(ours), float(theirs(np.eye(4)[labels], scores)), rtol=1e-4, atol=1e-5)


def test_smoothed_loss_is_serializable():
    made = keras.losses.deserialize(keras.losses.serialize(SmoothedSparseCategoricalCrossentropy(0.2, True)))
    assert (made.smoothing, made.from_logits) == (0.2, True)


@pytest.mark.parametrize("shape", ["constant", "cosine", "linear", "exponential"])
def test_schedules(shape):
    made = schedule(shape, learning_rate=0.5, steps=100, warmup=0.1, floor=0.1)
    rates = np.array([float(made(step)) for step in range(101)])
    np.testing.assert_allclose(rates[:10], 0.5 * np.arange(1, 11) / 10, rtol=1e-6)
    done = (np.arange(10, 101) - 10) / 90
    wanted = {
        "constant": np.ones_like(done),
        "cosine": 0.1 + 0.9 * (1 + np.cos(math.pi * done)) / 2,
        "linear": 1 - 0.9 * done,
        "exponential": 0.1**done,
    }[shape]
    np.testing.assert_allclose(rates[10:], 0.5 * wanted, rtol=1e-5)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(made))
    assert float(again(50)) == rates[50]


@pytest.mark.parametrize("name", _CLASSES)
def test_every_optimizer_takes_a_step_and_survives_saving(name, tmp_path):
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    model = tfbig.models.build("mlp", input_shape=(4,), units=(6,), classes=2)
    before = model.get_weights()
    fit(model, (x, (x[:, 0] > 0).astype(int)), optimizer=name, clip_norm=1.0, verbose=0)
    assert any((a != b).any() for a, b in zip(model.get_weights(), before, strict=True))
    model.save(tmp_path / "model.keras")
    assert type(tfbig.load(tmp_path / "model.keras").optimizer) is type(model.optimizer)


def test_optimizer_options_reach_keras():
    made = optimizer("momentum", learning_rate=0.3, weight_decay=0.01, clip_norm=2.0, ema=0.9, accumulate=4)
    config = made.get_config()
    assert (config["momentum"], config["weight_decay"], config["global_clipnorm"]) == (0.9, 0.01, 2.0)
    assert (config["use_ema"], config["ema_momentum"], config["gradient_accumulation_steps"]) == (True, 0.9, 4)


def test_averaged_weights_replace_the_last_ones():
    x = np.ones((8, 1), "float32")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    fit(model, (x, x), optimizer="sgd", learning_rate=0.25, loss="mse", ema=0.5, epochs=2, verbose=0)
    # The weight goes 0 -> 0.5 -> 0.75, and its average begins with the first: 0.5 -> 0.625.
    assert float(model.get_weights()[0][0, 0]) == pytest.approx(0.625)


def test_precision_as_a_block_and_as_a_setter():
    with precision("mixed_bfloat16"):
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    assert keras.layers.Dense(1).compute_dtype == "float32"
    precision("mixed_float16")
    assert keras.config.dtype_policy().name == "mixed_float16"
    precision("float32")
    with pytest.raises(InvalidArgument, match="Unknown precision 'float16'.*Did you mean"):
        precision("float16")


@pytest.mark.parametrize("name, dtype", [("mixed_float16", "float16"), ("mixed_bfloat16", "bfloat16")])
def test_training_computes_in_the_precision_and_the_model_does_not_afterwards(name, dtype):
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append((self.model.layers[1].compute_dtype, self.model.layers[-1].compute_dtype))
            seen.append(type(self.model.optimizer).__name__)

    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    model = tfbig.models.build("mlp", input_shape=(4,), units=(6,), classes=2)
    history = fit(model, (x, (x[:, 0] > 0).astype(int)), precision=name, epochs=4, callbacks=[Look()], verbose=0)
    assert seen[0] == (dtype, "float32")
    assert (seen[1] == "LossScaleOptimizer") == (name == "mixed_float16")
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    np.testing.assert_allclose(model.predict(x, verbose=0), model(x), atol=1e-6)


def test_none_is_the_default_strategy_and_a_strategy_passes_through():
    default = strategy("none")
    assert default is tf.distribute.get_strategy()
    assert strategy(default) is default


@pytest.mark.parametrize(
    "config, text",
    [
        (None, "needs the environment variable TF_CONFIG on every machine"),
        ("{", "TF_CONFIG must look like"),
        (json.dumps({"cluster": {}}), "TF_CONFIG must look like"),
        (
            json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 3}}),
            "the index 3, but lists 1 workers",
        ),
    ],
)
def test_multiworker_says_what_is_wrong_with_tf_config(config, text, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(InvalidArgument, match=text):
        strategy("multiworker")


def test_tpu_says_what_to_check(monkeypatch):
    for name in ("TPU_NAME", "COLAB_TPU_ADDR", "TPU_WORKER_HOSTNAMES", "TPU_ACCELERATOR_TYPE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidArgument, match="found no TPU.*Change runtime type > TPU.*TPU_NAME"):
        strategy("tpu")
