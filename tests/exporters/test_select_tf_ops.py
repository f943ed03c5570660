"""Operations that LiteRT has not, left to TensorFlow on request: the file says so, and is not taken for checked."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import ConversionFailed, InvalidArgument, TfbigError


@keras.saving.register_keras_serializable("tests")
class Determinant(keras.layers.Layer):
    def call(self, x):
        return keras.ops.det(keras.ops.reshape(x, (-1, 2, 2)))[:, None]


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(Determinant(name="determinant")(inputs)))


def test_without_it_the_error_says_how(model, tmp_path):
    with pytest.raises(ConversionFailed, match=r"no operation for MatrixDeterminant .*select_tf_ops=True"):
        tfbig.export(model, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_a_file_with_operations_of_tensorflow(model, tmp_path, recwarn):
    file = tfbig.export(model, tmp_path / "model.tflite", select_tf_ops=True)
    told = [str(w.message) for w in recwarn if w.category is UserWarning]
    assert any("model.tflite holds operations of TensorFlow: MatrixDeterminant." in text for text in told)
    assert b"FlexMatrixDeterminant" in file.read_bytes()
    with pytest.raises(TfbigError, match="flex delegate"):
        tfbig.measure(file, (np.ones((8, 4), "float32"), np.ones((8, 2), "float32")))


def test_a_model_that_needs_none_is_checked_as_ever(tmp_path, recwarn):
    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    file = tfbig.export(plain, tmp_path / "model.tflite", select_tf_ops=True)
    assert not [w for w in recwarn if "TensorFlow" in str(w.message)]
    assert tfbig.measure(file, (np.ones((8, 4), "float32"), np.ones((8, 2), "float32")), latency=False).bytes


def test_integers_and_other_formats_do_not_take_it(model, tmp_path):
    with pytest.raises(InvalidArgument, match="`select_tf_ops=True` goes with float files.*received 'dynamic'"):
        tfbig.export(model, tmp_path / "model.tflite", quantize="dynamic", select_tf_ops=True)
    with pytest.raises(InvalidArgument, match=r"`select_tf_ops` does not apply to 'model.onnx'.*It is for .tflite"):
        tfbig.export(model, tmp_path / "model.onnx", select_tf_ops=True)


@keras.saving.register_keras_serializable("tests")
class InFloat64(keras.layers.Layer):
    def call(self, x):
        return keras.ops.cast(keras.ops.matmul(keras.ops.cast(x, "float64"), np.eye(4)), "float32")


def test_numbers_of_another_type_are_named(tmp_path):
    model = keras.Sequential([keras.Input((4,)), InFloat64(name="wide"), keras.layers.Dense(2)])
    with pytest.raises(ConversionFailed, match=r"MatMul of float64 \(in 'wide'\).*float32: cast to that"):
        tfbig.export(model, tmp_path / "model.tflite")
