"""Padding does not count: the quality of sequences is that of the positions that Keras's masks let through."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.measurement.masks import output_masks, visible

RNG = np.random.default_rng(0)
X = RNG.integers(1, 20, (32, 6)).astype("int32")
for row, length in zip(X, RNG.integers(2, 6, 32), strict=True):
    row[length:] = 0
Y = np.where(X > 0, X % 3, 1)


@pytest.fixture(scope="module")
def tagger():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,), dtype="int32")
    x = layers.LSTM(8, return_sequences=True)(layers.Embedding(20, 8, mask_zero=True)(inputs))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(X, Y, epochs=2, verbose=0)
    return model


def test_a_model_is_measured_as_keras_measures_it(tagger):
    measured = tfbig.measure(tagger, (X, Y))
    assert measured.quality == pytest.approx(tagger.evaluate(X, Y, verbose=0)[1], abs=1e-6)
    assert measured.samples == 32


def test_a_file_is_measured_by_the_masks_of_its_model(tagger, tmp_path):
    file = tfbig.export(tagger, tmp_path / "m.tflite")
    right = tagger.predict(X, verbose=0).argmax(-1) == Y
    assert tfbig.measure(file, (X, Y), latency=False).quality == pytest.approx(right.mean())
    masked = tfbig.measure(file, (X, Y), latency=False, masked_by=tagger)
    assert masked.quality == pytest.approx(right[X > 0].mean())


def test_stages_are_measured_so(tagger):
    result = tfbig.compress(tagger, "int8", train=(X, Y), test=(X, Y), epochs=1, verbose=0)
    assert result.stages[0].measurement.quality == pytest.approx(tagger.evaluate(X, Y, verbose=0)[1], abs=1e-6)


def test_models_without_masks_have_none(small_model):
    assert output_masks(small_model) is None
    values = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(visible(values, np.array([[1, 0, 1], [0, 0, 1]])), [0, 2, 5])
    assert visible(values, None) is values and visible(values, np.ones((3, 2))) is values
