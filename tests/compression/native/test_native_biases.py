"""Biases are rounded as the LiteRT file holds them, so that Keras and the file compute with the same integers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.compression.native.inference import quantizing_machine
from tfbig.compression.native.prepared import WeightsSeenThrough
from tfbig.measurement.litert import run_litert

X = np.random.default_rng(0).normal(size=(256, 8, 8, 3)).astype("float32")


def convolution_and_norm():
    return [layers.Conv2D(8, 3), layers.BatchNormalization()]


def depthwise_and_norm():
    return [layers.DepthwiseConv2D(3, depth_multiplier=2), layers.BatchNormalization()]


def convolution_alone():
    return [layers.Conv2D(8, 3, bias_initializer="random_normal")]


def dense():
    return [layers.Flatten(), layers.Dense(5, bias_initializer="random_normal")]


def trained(made):
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(X.shape[1:]), *made])
    quantize = tfbig.Quantize("int8")
    prepared = quantize.prepare(model)
    prepared.compile("adam", "mse")
    prepared.fit(X, np.ones((len(X), *model.output_shape[1:]), "float32"), batch_size=32, epochs=1, verbose=0)
    return quantize.finish(prepared)


@pytest.mark.parametrize("made", [convolution_and_norm, depthwise_and_norm, convolution_alone, dense])
def test_one_layer_is_the_same_in_keras_and_in_the_file(made, tmp_path):
    model = trained(made())
    file = tfbig.export(model, tmp_path / "model.tflite")
    [received] = run_litert(file, [X])
    low, high = quantizing_machine(model).ranges.numpy()[-1]
    step = (high - low) / 255
    differs = np.abs(np.asarray(model(X, training=False)) - received) > step / 2
    assert differs.mean() < 2e-4  # From 4e-4 to 8e-4 without the rounding of the bias, and 0 with it.


def test_the_rounding_is_what_numpy_says():
    model = trained([layers.Conv2D(4, 3, bias_initializer="random_normal", name="conv")])
    machine, conv = quantizing_machine(model), model.layers[0]
    [bias] = machine.biases.values()
    low, high = machine.ranges.numpy()[0]
    with WeightsSeenThrough(model.machines, training=False):
        rounding = bias.rounding(low, high, 8).numpy()
        largest = np.abs(np.asarray(conv.kernel.value)).max(axis=(0, 1, 2))
    scale = largest / 127 * (high - low) / 255
    expected = np.round(conv.bias.numpy() / scale) * scale - conv.bias.numpy()
    np.testing.assert_allclose(rounding, expected, atol=1e-7)
    assert np.any(rounding != 0) and np.all(np.abs(rounding) <= scale / 2 * 1.0001)
