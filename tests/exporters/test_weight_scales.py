"""Scales of weights have 10 significant bits in a file, and a file holds equal lists of numbers once."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import tfbig
from tfbig.compression.native.integers import shortened
from tfbig.exporters.packing import pack, unpack

X = np.random.default_rng(0).normal(size=(64, 8, 8, 3)).astype("float32")


def network():
    """Convolutions of all kinds, one of them used twice."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 3))
    x = layers.BatchNormalization()(layers.Conv2D(16, 3, padding="same", use_bias=False)(inputs))
    twice = layers.Conv2D(16, 1, bias_initializer="random_normal")
    x = twice(layers.ReLU()(twice(layers.DepthwiseConv2D(3, bias_initializer="random_normal")(x))))
    x = layers.Conv2DTranspose(8, 3, bias_initializer="random_normal")(x)
    return keras.Model(inputs, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


@given(st.lists(st.floats(2.0**-100, 2.0**100, width=32), min_size=1, max_size=20))
def test_a_shortened_number_is_the_nearest_of_ten_bits(numbers):
    numbers = np.array(numbers, "float32")
    short = shortened(numbers).numpy()
    mantissas = np.frexp(short.astype("float64"))[0]
    np.testing.assert_array_equal(mantissas * 2**10 % 1, 0)
    steps = np.ldexp(2.0**-10, np.frexp(numbers.astype("float64"))[1])
    assert np.all(np.abs(short.astype("float64") - numbers) <= steps / 2)
    np.testing.assert_array_equal(shortened(short), short)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of `network`, by their scheme."""
    model = network()
    folder = tmp_path_factory.mktemp("scales")
    return {
        scheme: tfbig.export(model, folder / f"{scheme}.tflite", quantize=scheme, calibration=X)
        for scheme in ("int8", "int16x8", "int4")
    }


def quantized_weights(path):
    """Of each layer with weights: the tensors of its input, weights and bias, and the bias's integers."""
    model = unpack(path.read_bytes())
    graph = model.subgraphs[0]
    for op in graph.operators:
        tensors = [graph.tensors[i] for i in op.inputs if i >= 0]
        biases = [t for t in tensors if t.type in (schema.TensorType.INT32, schema.TensorType.INT64)]
        weights = [t for t in tensors if model.buffers[t.buffer].data is not None and t not in biases]
        if weights and biases and biases[-1].quantization is not None and biases[-1].quantization.scale is not None:
            source = next(t for t in tensors if model.buffers[t.buffer].data is None)
            yield source, weights[0], biases[-1]


@pytest.mark.parametrize("scheme", ["int8", "int16x8", "int4"])
def test_scales_of_weights_are_short_and_those_of_biases_follow(scheme, files):
    """But for activations of 16 bits, whose steps are so small that a thousandth is many of them."""
    layers_of_the_file = list(quantized_weights(files[scheme]))
    assert len(layers_of_the_file) >= 5
    for source, weights, bias in layers_of_the_file:
        scales = np.asarray(weights.quantization.scale, "float32")
        assert np.array_equal(scales, shortened(scales)) == (scheme != "int16x8")
        np.testing.assert_array_equal(bias.quantization.scale, np.float32(source.quantization.scale[0]) * scales)


def test_biases_keep_their_values(files, tmp_path):
    """To half a unit of their scale, which is less than a millionth here."""
    model = unpack(files["int8"].read_bytes())
    found = []
    for _, _, bias in quantized_weights(files["int8"]):
        integers = np.frombuffer(bytes(model.buffers[bias.buffer].data), np.int32)
        found.append(integers * np.asarray(bias.quantization.scale))
    assert any(np.any(values) for values in found)
    float_file = tfbig.export(network(), tmp_path / "float.tflite")
    wanted = [
        np.frombuffer(bytes(buffer.data), np.float32)
        for buffer in unpack(float_file.read_bytes()).buffers
        if buffer.data is not None and len(buffer.data) % 4 == 0
    ]
    for values in found:
        assert any(v.shape == values.shape and np.allclose(v, values, atol=1e-4) for v in wanted)


def test_equal_lists_of_numbers_stand_in_the_file_once(files):
    content = files["int8"].read_bytes()
    assert pack(unpack(content)) == content
    for tensor in (model := unpack(content)).subgraphs[0].tensors:
        if tensor.quantization is not None and tensor.quantization.zeroPoint is not None:
            tensor.quantization.zeroPoint = list(tensor.quantization.zeroPoint)  # Written one by one, as others do.
    assert len(content) < 0.95 * len(pack(model))


def test_a_factor_that_the_converter_merges_into_weights_is_not_shortened(tmp_path):
    """The Keras model knows nothing of the 1.0507 of SELU, which the file has in the weights of the next layer."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Flatten(), layers.Dense(12), layers.Activation("selu"), layers.Dense(7)]
    )
    quantize = tfbig.Quantize("int8")
    prepared = quantize.prepare(model)
    prepared.compile("sgd", "mse")
    prepared.fit(X, np.zeros((64, 7)), verbose=0)
    file = tfbig.export(quantize.finish(prepared), tmp_path / "model.tflite")
    [*_, (_, weights, bias)] = quantized_weights(file)
    scales = np.asarray(weights.quantization.scale)
    kernel = prepared.layers[-1].kernel.numpy()
    factor = np.median(scales / (np.abs(kernel).max(axis=0) / 127))
    assert factor == pytest.approx(1.0507, abs=1e-3)
    plain = scales / np.float32(1.0507009873554805)
    np.testing.assert_allclose(plain, shortened(plain), rtol=1e-6)
    assert len(scales) == 7 and np.any(shortened(scales).numpy() != scales)
