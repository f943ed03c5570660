"""Trained ranges arrive in the LiteRT file: all integer, and within a few steps of what Keras computes."""

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import tfbig
from tfbig.compression.native.rounding import off_ties
from tfbig.measurement.litert import run_litert

STEPS, MEAN = 3, 0.5


def residual(x):
    x = shortcut = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x)))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", use_bias=False)(x))
    x = layers.ReLU()(layers.Add()([x, shortcut]))
    return layers.Flatten()(layers.MaxPooling2D()(x))


def depthwise(x):
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 1)(x)))
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x)))
    return layers.GlobalAveragePooling2D()(layers.Dropout(0.1)(x))


def branches(x):
    a = layers.AveragePooling2D(2)(layers.Conv2D(4, 3, padding="same", activation="relu")(x))
    b = layers.MaxPooling2D(2)(layers.Conv2D(4, 1, activation="swish")(x))
    return layers.Reshape((-1,))(layers.Concatenate()([a, b]))


def pre_activation(x):
    x = layers.Conv2D(8, 3, padding="same")(x)
    return layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(layers.ReLU()(layers.BatchNormalization()(x))))


@pytest.mark.parametrize("body", [residual, depthwise, branches, pre_activation])
def test_logits_agree_and_nothing_stays_float(body, tmp_path):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 256)
    x = (rng.normal(size=(256, 8, 8, 3)) + y[:, None, None, None] / 2).astype("float32")
    inputs = layers.Input((8, 8, 3))
    model = keras.Model(inputs, layers.Dense(4)(body(inputs)))
    prepared = tfbig.Quantize("int8").prepare(model)
    prepared.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    prepared.fit(x, y, epochs=6, verbose=0)
    path = tfbig.export(prepared, tmp_path / "model.tflite")
    assert tfbig.inspect(path).float_ops == ()
    expected = np.asarray(prepared(x[:64], training=False))
    (got,) = run_litert(path, [x[:64]])
    low, high = prepared.machines[0].final_ranges.numpy()[-1]
    steps = np.abs(got - expected) / ((high - low) / 255)
    assert steps.max() <= STEPS + 0.01 and steps.mean() <= MEAN
    assert np.mean(got.argmax(1) == expected.argmax(1)) >= 0.95


@pytest.mark.parametrize("rescaled", [False, True])
def test_pixels_between_minus_one_and_one_are_rounded_alike(rescaled, tmp_path):
    """Every one of them would lie half-way between two levels, where Keras and LiteRT round to either side."""
    keras.utils.set_random_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3)).astype("float32")
    pixels.flat[:2] = 0, 255
    inputs = x = layers.Input((8, 8, 3))
    if rescaled:
        x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    model = keras.Model(inputs, layers.Conv2D(4, 3, strides=2, padding="same")(x))
    images = pixels if rescaled else pixels / np.float32(127.5) - 1
    prepared = tfbig.Quantize("int8").prepare(model)
    prepared.compile("sgd", "mse", jit_compile=False)
    prepared.fit(images, model.predict(images, verbose=0), batch_size=64, verbose=0)
    (got,) = run_litert(tfbig.export(prepared, tmp_path / "model.tflite"), [images])
    low, high = prepared.machines[0].final_ranges.numpy()[-1]
    steps = np.abs(got - np.asarray(prepared(images, training=False))) / ((high - low) / 255)
    assert np.mean(steps > 0.5) < 0.01


@given(low=st.floats(-1e3, 0), span=st.floats(1e-3, 1e3))
def test_ranges_off_ties(low, span):
    given_range = np.array([[low, max(low + span, 1e-3)]], "float32")
    ((new_low, new_high),) = off_ties(given_range).numpy()
    ((old_low, old_high),) = given_range
    width = old_high - old_low
    assert new_low == old_low and old_high <= new_high <= old_high + width / 64
    zero = -255 * new_low / (new_high - new_low)
    assert zero < 64 or abs(zero - np.floor(zero) - 0.5) > 0.009


@pytest.mark.parametrize(("dtype", "scheme", "bits"), [("int16x8", "int16x8", 16), ("int4", "int8 (int4 weights)", 8)])
def test_other_integers_agree_too(dtype, scheme, bits, tmp_path):
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 4, 128)
    x = (rng.normal(size=(128, 8, 8, 3)) + y[:, None, None, None] / 2).astype("float32")
    inputs = layers.Input((8, 8, 3))
    prepared = tfbig.Quantize(dtype).prepare(keras.Model(inputs, layers.Dense(4)(residual(inputs))))
    prepared.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    prepared.fit(x, y, epochs=4, verbose=0)
    path = tfbig.export(prepared, tmp_path / "model.tflite")
    inside = tfbig.inspect(path)
    assert inside.scheme == scheme and inside.float_ops == ()
    expected, (got,) = np.asarray(prepared(x[:64], training=False)), run_litert(path, [x[:64]])
    low, high = prepared.machines[0].final_ranges.numpy()[-1]
    step = (high - low) / 255 if bits == 8 else 2 * max(-low, high) / 65535
    # The rounding of 16 bits is finer than the sums of float32 that Keras compares with.
    assert np.max(np.abs(got - expected)) <= (3.01 if bits == 8 else 64) * step


def test_an_untrained_quantized_model_is_not_exported(tmp_path):
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3)], name="cold")
    with pytest.raises(tfbig.errors.InvalidModel, match="'cold' was prepared with Quantize but saw no data"):
        tfbig.export(tfbig.Quantize("int8").prepare(model), tmp_path / "model.tflite")
    assert list(tmp_path.iterdir()) == []


def test_pruned_zeros_reach_the_integer_file(tmp_path):
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(64, 32)).astype("float32")
    model = keras.Sequential([layers.Input((32,)), layers.Dense(64, activation="relu"), layers.Dense(8)])
    prune, quantize = tfbig.Prune(sparsity=0.8), tfbig.Quantize("int8")
    prepared = quantize.prepare(prune.finish(prune.prepare(model)))
    prepared.compile("sgd", "mse")
    prepared.fit(x, np.zeros((64, 8)), verbose=0)
    path = tfbig.export(quantize.finish(prepared), tmp_path / "model.tflite")
    assert tfbig.measure(path, latency=False).zero_fraction >= 0.799
