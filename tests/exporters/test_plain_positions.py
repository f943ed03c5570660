"""Positions of the largest and smallest entries come out of every format, also where other outputs are integers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfbig
from tfbig.exporters.plain_positions import plain_positions
from tfbig.measurement.subject import subject_of

X = np.random.default_rng(0).normal(size=(32, 8)).astype("float32")


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    scores = layers.Dense(5, activation="softmax")(inputs)
    lowest = ops.argmin(scores, axis=1, keepdims=True)
    return keras.Model(inputs, [ops.argmax(scores, axis=-1), lowest, scores])


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx"])
def test_float_files_give_the_positions(model, name, tmp_path):
    found = subject_of(tfbig.export(model, tmp_path / name)).predict(X)
    for got, want in zip(found, model.predict(X, verbose=0), strict=True):
        np.testing.assert_allclose(np.reshape(got, want.shape), want, atol=1e-5)


def test_an_output_that_an_operation_reads_too_is_a_number(model, tmp_path):
    """The quantizer leaves the signature at the integers of such an output."""
    file = tfbig.export(model, tmp_path / "m.tflite", quantize="int8", calibration=X)
    scores = subject_of(file).predict(X)[2]
    np.testing.assert_allclose(scores, model.predict(X, verbose=0)[2], atol=0.02)


@pytest.mark.parametrize(("axis", "keepdims"), [(None, False), (None, True), (0, True), (-1, False)])
def test_plain_positions_are_kerass(axis, keepdims):
    for position in (ops.argmax, ops.argmin):
        expected = position(X, axis=axis, keepdims=keepdims)
        with plain_positions():
            found = position(X, axis=axis, keepdims=keepdims)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
