"""Layers that stay float, by choice or by name, compute in Keras what they compute in the file."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.exporters.post_training import PostTraining
from tfbig.measurement.litert import run_litert

X = np.random.default_rng(0).normal(size=(64, 5, 20)).astype("float32")


def prepared(model: keras.Model, **options: Any) -> keras.Model:
    quantized = tfbig.Quantize("int8", **options).prepare(model)
    quantized.compile("sgd", "mse")
    quantized.fit(X, quantized.predict(X, verbose=0), verbose=0)
    return quantized


def mlp() -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 20))
    x = layers.Dense(24, activation="relu", name="first")(inputs)
    x = layers.Dense(24, activation="tanh", name="second")(x)
    return keras.Model(inputs, layers.Dense(8, activation="relu", name="third")(x))


def float_matrices(file: Any) -> list[int]:
    """Which of the file's matrix products are in float."""
    found = [op.arithmetic for op in tfbig.inspect(file).ops if op.type == "FULLY_CONNECTED"]
    return [number for number, arithmetic in enumerate(found) if arithmetic == "float"]


@pytest.mark.parametrize(
    ("exempt", "expected"),
    [
        (["first"], [0]),
        (["first", "second"], [0, 1]),
        (["second"], [1]),
        (["second", "third"], [1, 2]),
        (["third"], [2]),
    ],
)
def test_exempt_layers_are_float_in_both(exempt, expected, tmp_path):
    model = prepared(mlp(), exempt=exempt)
    file = tfbig.export(model, tmp_path / "m.tflite")
    assert float_matrices(file) == expected
    found = model.predict(X, verbose=0)
    np.testing.assert_allclose(run_litert(file, [X])[0], found, atol=1e-6 * np.ptp(found))


@pytest.mark.parametrize("norm", [layers.RMSNormalization, layers.LayerNormalization])
@pytest.mark.parametrize("place", ["first", "last"])
def test_normalization_at_an_end(norm, place, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 20))
    dense = layers.Dense(16)
    outputs = dense(norm(name="norm")(inputs)) if place == "first" else norm(name="norm")(dense(inputs))
    model = keras.Model(inputs, outputs)
    weights = model.get_layer("norm").weights
    model.get_layer("norm").set_weights(
        [np.random.default_rng(i).uniform(0.5, 1.5, w.shape) for i, w in enumerate(weights)]
    )
    model = prepared(model)
    file = tfbig.export(model, tmp_path / "m.tflite")
    assert not float_matrices(file)
    found = model.predict(X, verbose=0)
    np.testing.assert_allclose(run_litert(file, [X])[0], found, atol=1e-6 * np.ptp(found))


def test_rows_of_a_table_are_rounded_before_what_is_added(tmp_path):
    """Whole numbers go into the table, which no float operation has made."""
    keras.utils.set_random_seed(0)
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(16, 12, name="words")(tokens)
    x = layers.LayerNormalization()(layers.add([x, layers.Embedding(16, 12, name="others")(tokens)]))
    model = keras.Model(tokens, layers.Dense(4)(x))
    quantized = tfbig.Quantize("int8").prepare(model)
    quantized.compile("sgd", "mse")
    x = np.random.default_rng(0).integers(0, 16, (32, 6)).astype("int32")
    quantized.fit(x, model.predict(x, verbose=0), verbose=0)
    file = tfbig.export(quantized, tmp_path / "m.tflite")
    found = quantized.predict(x, verbose=0)
    np.testing.assert_allclose(run_litert(file, [x])[0], found, atol=1e-5 * np.ptp(found))


@pytest.mark.parametrize(("layer", "expected"), [("first", 0), ("third", 2)])
def test_schemes_after_training_find_the_last_layer_too(layer, expected, tmp_path):
    quantize = PostTraining("int8", schemes={layer: "float"})
    assert float_matrices(tfbig.export(mlp(), tmp_path / "m.tflite", quantize=quantize, calibration=X)) == [expected]


def table(scales: list[float]) -> tuple[keras.Model, np.ndarray]:
    """A network on raw columns of such standard deviations, each around three of them."""
    keras.utils.set_random_seed(0)
    columns = np.random.default_rng(0).normal(3, 1, (256, len(scales))) * scales
    norm = layers.Normalization(name="norm")
    norm.adapt(columns)
    inputs = keras.Input((len(scales),))
    x = layers.Dense(16, activation="relu", name="hidden")(norm(inputs))
    return keras.Model(inputs, layers.Dense(3, name="out")(x)), columns.astype("float32")


@pytest.mark.parametrize("trained", [True, False], ids=["trained", "after training"])
@pytest.mark.parametrize(
    ("scales", "dtype", "is_float"),
    [([20.0, 20_000.0, 0.3], "int8", True), ([1.0, 1e6], "int16x8", True), ([50.0, 60.0, 70.0], "int8", False)],
    ids=["table", "int16x8", "pixels"],
)
def test_columns_of_very_different_scale_are_normalized_in_float(scales, dtype, is_float, trained, tmp_path):
    model, x = table(scales)
    if trained:
        network = tfbig.Quantize(dtype).prepare(model)
        network(x, training=True)
        assert network.preparation.techniques[-1].exempt == (("norm",) if is_float else ())
        file = tfbig.export(tfbig.Quantize(dtype).finish(network), tmp_path / "m.tflite")
    else:
        file = tfbig.export(model, tmp_path / "m.tflite", quantize=dtype, calibration=x)
    reasons = [op.reason for op in tfbig.inspect(file).ops if op.reason]
    assert bool(reasons) == is_float
    assert all("differ more in scale than the integers of one range can show" in reason for reason in reasons)
    got = np.concatenate([run_litert(file, [x[i : i + 1]])[0] for i in range(64)])
    noise = got - model.predict(x[:64], verbose=0)
    assert np.sqrt(np.mean(noise**2)) / np.std(got) < 0.03


def test_a_normalization_can_be_exempt():
    model, _ = table([1.0, 1.0])
    assert tfbig.Quantize("int8", exempt=["norm", "out"]).prepare(model).preparation.techniques[-1].exempt == (
        "norm",
        "out",
    )


def test_a_lambda_that_cannot_be_saved_is_named():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4, activation=lambda x: keras.ops.relu(x) * 2)])
    text = "An activation is a lambda, or a function that Keras cannot find"
    with warnings.catch_warnings(), pytest.raises(tfbig.errors.InvalidModel, match=text):
        warnings.simplefilter("ignore")  # Keras's, of the lambda
        tfbig.Quantize("int8").prepare(model)
