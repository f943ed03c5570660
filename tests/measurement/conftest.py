"""Small models and the LiteRT files that the stock tools make of them."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf


def _convert(model, *, optimizations=(), calibration=None, integer_ends=False) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = list(optimizations)
    if calibration is not None:
        converter.representative_dataset = lambda: ([sample[None]] for sample in calibration)
    if integer_ends:
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs were expected")
        return converter.convert()


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((70, 8, 8, 1), np.float32)


@pytest.fixture(scope="session")
def cnn() -> keras.Model:
    """A convolution, a depthwise one and a Dense layer; six of ten weights of each kernel are zero."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    x = keras.layers.Conv2D(16, 3, activation="relu")(inputs)
    x = keras.layers.DepthwiseConv2D(3)(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Flatten()(x)
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))
    random = np.random.default_rng(3)
    for layer, scale in ((1, 1.0), (2, 1.0), (6, 12.0)):  # a large last kernel makes the answers clear
        kernel, bias = model.layers[layer].get_weights()
        model.layers[layer].set_weights([_sparse(kernel * scale, 0.6), random.normal(size=bias.shape) / 9])
    return model


def _sparse(weights: np.ndarray, share: float) -> np.ndarray:
    order = np.argsort(np.abs(weights), axis=None)
    flat = weights.flatten()
    flat[order[: round(share * flat.size)]] = 0.0
    return flat.reshape(weights.shape)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def float_file(cnn, folder):
    path = folder / "float.tflite"
    path.write_bytes(_convert(cnn))
    return path


@pytest.fixture(scope="session")
def dynamic_file(cnn, folder):
    path = folder / "dynamic.tflite"
    path.write_bytes(_convert(cnn, optimizations=[tf.lite.Optimize.DEFAULT]))
    return path


@pytest.fixture(scope="session")
def int8_file(cnn, images, folder):
    path = folder / "int8.tflite"
    options = {"calibration": images[:20], "integer_ends": True}
    path.write_bytes(_convert(cnn, optimizations=[tf.lite.Optimize.DEFAULT], **options))
    return path


@pytest.fixture(scope="session")
def sparse_file(cnn, folder):
    path = folder / "sparse.tflite"
    path.write_bytes(_convert(cnn, optimizations=[tf.lite.Optimize.EXPERIMENTAL_SPARSITY]))
    return path


@pytest.fixture(scope="session")
def int4_file(float_file, folder):
    from ai_edge_quantizer import quantizer, recipe

    path = folder / "int4.tflite"
    quantizer.Quantizer(str(float_file), recipe.weight_only_wi4_afp32()).quantize().export_model(str(path))
    return path


@pytest.fixture(scope="session")
def recurrent_file(folder):
    """A fused LSTM, whose kernel keeps its state between invocations, with the model it was made of."""
    import tf_keras

    tf_keras.utils.set_random_seed(0)
    layers = [tf_keras.Input((6, 3), batch_size=1), tf_keras.layers.LSTM(4), tf_keras.layers.Dense(1)]
    model = tf_keras.Sequential(layers)
    path = folder / "recurrent.tflite"
    path.write_bytes(_convert(model))
    return path, model


@pytest.fixture(scope="session")
def two_headed() -> keras.Model:
    """Two inputs and two outputs, whose names sort the other way round than they were given."""
    keras.utils.set_random_seed(1)
    second, first = keras.Input((4,), name="second"), keras.Input((3,), name="first")
    outputs = [keras.layers.Dense(5, name="z")(second), keras.layers.Dense(2, name="a")(first)]
    return keras.Model([second, first], outputs)


@pytest.fixture(scope="session")
def two_headed_file(two_headed, folder):
    path = folder / "two_headed.tflite"
    path.write_bytes(_convert(two_headed))
    return path


@pytest.fixture(scope="session")
def convert():
    return _convert
