"""A quantized Keras model computes the very integers of its LiteRT file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import tfbig
from tfbig.compression.native.inference import quantizing_machine
from tfbig.compression.native.integers import (
    Addition,
    Grid,
    HardSwish,
    Leaky,
    MatrixProduct,
    Mean,
    Operand,
    Product,
    ReLU,
)
from tfbig.measurement.litert import run_litert

X = np.random.default_rng(0).normal(size=(256, 8, 8, 3)).astype("float32")


def convolution_and_norm(x):
    return layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3)(x)))


def depthwise_and_norm(x):
    return layers.BatchNormalization()(layers.DepthwiseConv2D(3, depth_multiplier=2)(x))


def norm_of_negative_scale(x):
    return layers.BatchNormalization(gamma_initializer="random_normal")(layers.Conv2D(8, 3, use_bias=False)(x))


def norm_in_front(x):
    x = layers.BatchNormalization(gamma_initializer="random_normal")(layers.Conv2D(8, 3, activation="relu")(x))
    return layers.Conv2D(4, 3)(layers.ReLU()(x))


def dense(x):
    return layers.Dense(5, bias_initializer="random_normal")(layers.Flatten()(x))


def means(x):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, bias_initializer="random_normal")(x))


def residual(x):
    x = layers.Conv2D(8, 1, activation="relu")(x)
    return layers.ReLU()(layers.add([x, layers.Conv2D(8, 3, padding="same")(x)]))


def difference(x):
    return layers.subtract([layers.Conv2D(8, 1, activation="relu")(x), layers.Conv2D(8, 3, padding="same")(x)])


def squeeze_and_excite(x):
    x = layers.Conv2D(8, 3, activation="relu")(x)
    weights = layers.Dense(8, activation="sigmoid")(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.multiply([x, weights])


def concatenation(x):
    return layers.concatenate([layers.Conv2D(8, 3, padding="same")(x), layers.Conv2D(4, 1, activation="relu")(x)])


def branches(x):
    x = layers.Conv2D(8, 3, padding="same")(x)
    y = layers.concatenate([x, layers.Conv2D(4, 1, activation="relu")(x)])
    return layers.Conv2D(4, 1)(layers.concatenate([y, x]))


def several_relus(x):
    x = layers.BatchNormalization()(layers.Conv2D(8, 3)(x))
    return layers.add([layers.Conv2D(4, 1)(layers.ReLU()(x)), layers.DepthwiseConv2D(1)(layers.ReLU()(x))[..., :4]])


def relu_beside(x):
    x = layers.Conv2D(8, 3)(x)
    return layers.concatenate([layers.Conv2D(4, 1)(layers.ReLU()(x)), layers.Conv2D(4, 1)(x)])


def activations(x):
    x = layers.LeakyReLU(negative_slope=0.1)(layers.Conv2D(8, 3)(x))
    return layers.Activation("hard_swish")(layers.Conv2D(8, 3)(layers.Activation("leaky_relu")(x)))


def constants(x):
    x = layers.Conv2D(8, 3, activation="relu")(x)
    return layers.Conv2D(4, 1)(layers.ReLU(6.0)(x * np.linspace(0.5, 1.5, 8).astype("float32") + 3.0))


def attention(x):
    x = layers.Reshape((64, 3))(x)
    x = layers.Dense(8)(x)
    return layers.MultiHeadAttention(num_heads=2, key_dim=6)(x, x)


def matrices(x):
    """The zero point of the second operand is 0 for symmetric activations, about; LiteRT then takes another kernel."""
    x = layers.Reshape((64, 3))(x)
    return keras.ops.matmul(layers.Dense(8)(x), layers.Reshape((8, 64))(layers.Dense(8)(x)))


def separable(x):
    return layers.BatchNormalization()(layers.SeparableConv2D(8, 3, bias_initializer="random_normal")(x))


def upsampled(x):
    x = layers.Conv2DTranspose(8, 3, strides=2)(layers.Conv2D(8, 3)(x))
    return layers.UpSampling2D(2, interpolation="bilinear")(layers.AveragePooling2D(2)(x))


def rescaled(x):
    x = layers.Rescaling(1 / 127.5)(x)
    return layers.add([layers.Conv2D(3, 3, padding="same", activation="relu")(x), x])


def deep(x):
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    for _ in range(8):
        y = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x)))
        y = layers.BatchNormalization()(layers.Conv2D(8, 1)(y))
        x = layers.add([x, y])
    return layers.Dense(10)(layers.GlobalAveragePooling2D()(x))


def trained(made, dtype="int8"):
    keras.utils.set_random_seed(1)
    inputs = keras.Input(X.shape[1:])
    model = keras.Model(inputs, made(inputs))
    quantize = tfbig.Quantize(dtype)
    prepared = quantize.prepare(model)
    prepared.compile("adam", "mse")
    prepared.fit(X, np.ones((len(X), *model.output_shape[1:]), "float32"), batch_size=32, epochs=1, verbose=0)
    return quantize.finish(prepared)


NETWORKS = [
    convolution_and_norm,
    depthwise_and_norm,
    norm_of_negative_scale,
    norm_in_front,
    dense,
    means,
    residual,
    difference,
    squeeze_and_excite,
    concatenation,
    branches,
    several_relus,
    relu_beside,
    activations,
    constants,
    attention,
    matrices,
    separable,
    upsampled,
    rescaled,
    deep,
]


@pytest.mark.parametrize("made", NETWORKS)
def test_keras_and_the_file_give_the_same_integers(made, tmp_path):
    model = trained(made)
    [received] = run_litert(tfbig.export(model, tmp_path / "model.tflite"), [X])
    low, high = quantizing_machine(model).final_ranges.numpy()[-1]
    for expected in (model(X, training=False), model.predict(X, verbose=0)):
        steps = np.abs(np.asarray(expected) - received) / ((high - low) / 255)
        assert np.max(steps) < 0.01


@pytest.mark.parametrize("made", [dense, depthwise_and_norm])
def test_so_do_weights_of_4_bits(made, tmp_path):
    model = trained(made, "int4")
    [received] = run_litert(tfbig.export(model, tmp_path / "model.tflite"), [X])
    low, high = quantizing_machine(model).final_ranges.numpy()[-1]
    steps = np.abs(np.asarray(model(X, training=False)) - received) / ((high - low) / 255)
    assert np.max(steps) < 0.01


def test_a_mean_over_everything_and_a_capped_leaky_relu_are_taken():
    def capped(x):
        return layers.ReLU(max_value=0.5, negative_slope=0.1)(layers.Conv2D(8, 3)(x))

    assert np.max(trained(capped)(X, training=False)) <= 0.51
    inputs = keras.Input((4,))
    prepared = tfbig.Quantize("int8").prepare(keras.Model(inputs, keras.ops.mean(layers.Dense(8)(inputs))))
    assert prepared(np.ones((2, 4), "float32")).shape == ()


LEVELS = st.lists(st.integers(0, 255), min_size=2, max_size=20).map(lambda values: np.array(values, "float32"))
SCALES = st.floats(0.01, 1.0).map(np.float32)


def operand(integers, scale):
    grid = Grid(tf.constant(scale), tf.constant(-128.0))
    return Operand(tf.constant(integers * scale), grid)


def integers_of(rule, y, operands, end):
    return np.rint(rule.outputs(y, operands, Grid(tf.constant(end), tf.constant(-128.0))).numpy() / end)


@settings(max_examples=50, deadline=None)
@given(LEVELS, SCALES, SCALES, SCALES, st.sampled_from([1, -1]))
def test_additions_have_factors_of_21_bits(levels, left, right, end, sign):
    other = levels[::-1]
    found = integers_of(Addition(sign), None, [operand(levels, left), operand(other, right)], end)
    factors = [np.float32(left / end), np.float32(right / end)]
    shift = 20 - int(np.floor(np.log2(max(factors))))
    wide = [int(np.rint(float(factor) * 2.0**shift)) for factor in factors]
    exact = [int(a) * wide[0] + sign * int(b) * wide[1] for a, b in zip(levels, other, strict=True)]
    np.testing.assert_array_equal(found, [(total + (1 << (shift - 1))) >> shift for total in exact])


@settings(max_examples=50, deadline=None)
@given(LEVELS, SCALES, SCALES, SCALES)
def test_products_have_one_factor(levels, left, right, end):
    found = integers_of(Product(), None, [operand(levels, left), operand(levels[::-1], right)], end)
    np.testing.assert_array_equal(found, np.rint((levels * levels[::-1]) * (np.float32(left * right) / end)))


@settings(max_examples=50, deadline=None)
@given(LEVELS, SCALES, SCALES)
def test_means_are_sums_and_one_factor(levels, source, end):
    found = integers_of(Mean(len(levels)), np.mean(levels * source, keepdims=True), [operand(levels, source)], end)
    count = np.float32(len(levels))
    factor = np.float32(source / end) * (np.float32(1) / count)
    offset = np.float32(-128) - -128 * count * factor
    np.testing.assert_array_equal(found, [np.rint((levels.sum() - 128 * count) * factor + offset) + 128])


@settings(max_examples=50, deadline=None)
@given(LEVELS, SCALES, SCALES, st.sampled_from([1.0, 0.2]))
def test_leaky_factors_have_8_bits_behind_the_point(levels, source, end, slope):
    signed = levels - 100
    found = integers_of(Leaky(slope), None, [operand(signed, source)], end)
    factors = [int(np.rint(256 * np.float32(source / end) * s)) for s in (np.float32(slope), 1)]
    np.testing.assert_array_equal(found, [(int(x) * factors[int(x >= 0)] + 128) >> 8 for x in signed])


@settings(max_examples=50, deadline=None)
@given(LEVELS, SCALES, SCALES)
def test_relu_has_one_factor_and_rounds_ties_up(levels, source, end):
    found = integers_of(ReLU(), None, [operand(levels - 100, source)], end)
    positive = np.maximum(levels - 100, 0)
    exact = positive.astype("float64") * float(np.float32(source / end))
    np.testing.assert_array_equal(found, np.floor(exact + 0.5))


@settings(max_examples=50, deadline=None)
@given(LEVELS, SCALES, SCALES)
def test_hard_swish_is_at_most_one_step_from_its_formula(levels, source, end):
    x = (levels - 100) * source
    found = integers_of(HardSwish(), None, [operand(levels - 100, source)], end)
    exact = x * np.clip(x + 3, 0, 6) / 6 / end
    assert np.max(np.abs(found - exact)) < 1 + 2e-4 * np.max(np.abs(exact))


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**12), 2**12), SCALES, SCALES, SCALES)
def test_matrix_products_have_a_factor_of_31_bits(total, left, right, end):
    y = tf.constant([np.float32(total) * (left * right)])
    [found] = integers_of(MatrixProduct(), y, [operand(np.ones(1), left), operand(np.ones(1), right)], end)
    fraction, shift = np.frexp(float(left) * float(right) / float(end))
    shift = int(shift)
    wide = total * 2 ** max(shift, 0) * round(float(fraction) * 2**31)
    upper = (abs(wide) + 2**30 - (wide < 0)) // 2**31 * (1 if wide >= 0 else -1)
    places = max(-shift, 0)
    below = upper & (2**places - 1)
    assert found == (upper >> places) + (below > (2**places - 1) // 2 + (upper < 0))


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**12), 2**12), SCALES, SCALES, SCALES)
def test_matrix_products_whose_second_operand_has_the_zero_point_0_are_rounded_once(total, left, right, end):
    unit = np.float32(left) * np.float32(right)
    second = Operand(tf.constant([1.0]) * right, Grid(tf.constant(right, tf.float32), tf.constant(0.0)))
    y = tf.constant([np.float32(total) * unit])
    [found] = integers_of(MatrixProduct(), y, [operand(np.ones(1), left), second], end)
    assert found == np.round(np.float32(total) * (unit / np.float32(end)))


def test_the_nearest_of_256_values():
    nearest = Grid.of(-1.0, 1.55).nearest(tf.constant([-2.0, -0.014, 0.016, 0.005, 0.015, 2.0]))
    np.testing.assert_allclose(nearest, [-1.0, -0.01, 0.02, 0.0, 0.02, 1.55], atol=1e-6)
