"""Models with states: a file begins with zero and goes on from call to call; the model keeps its own state."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfbig
from tfbig.errors import InvalidModel

X = np.random.default_rng(0).normal(size=(5, 1, 6)).astype("float32")


@pytest.fixture
def streaming():
    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=(1, 1, 6))
    return keras.Model(inputs, layers.Dense(2)(layers.GRU(4, stateful=True, name="gru")(inputs)))


@pytest.fixture
def expected(streaming):
    streaming.get_layer("gru").reset_states()
    outputs = [np.asarray(streaming(x[None])) for x in X]
    streaming.get_layer("gru").reset_states()
    return outputs


def test_files_go_on_from_call_to_call(streaming, expected, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    streaming(X[:1])
    left = streaming.get_layer("gru").states[0].numpy()
    file = tfbig.export(streaming, tmp_path / "m.tflite")
    folder = tfbig.export(streaming, tmp_path / "saved")
    np.testing.assert_array_equal(streaming.get_layer("gru").states[0].numpy(), left)
    runner = Interpreter(str(file)).get_signature_runner()
    [name] = runner.get_input_details()
    loaded = tf.saved_model.load(str(folder))
    for x, want in zip(X, expected, strict=True):
        np.testing.assert_allclose(next(iter(runner(**{name: x[None]}).values())), want, atol=1e-5)
        np.testing.assert_allclose(loaded.serve(x[None]), want, atol=1e-5)


def test_onnx_keeps_nothing(streaming, tmp_path):
    with pytest.raises(InvalidModel, match="has the stateful layer 'gru', and ONNX keeps nothing from call to call"):
        tfbig.export(streaming, tmp_path / "m.onnx")


def test_a_file_keeps_the_batch_that_its_states_have(tmp_path):
    inputs = keras.Input(batch_shape=(3, 2, 4))
    model = keras.Model(inputs, layers.LSTM(5, stateful=True)(inputs))
    file = tfbig.export(model, tmp_path / "m.tflite")
    from ai_edge_litert.interpreter import Interpreter

    assert list(Interpreter(str(file)).get_input_details()[0]["shape"]) == [3, 2, 4]
