"""Which range a tensor of the file gets, where several tensors of the model have its values."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

import tfbig
from tfbig.exporters.tensor_ranges import is_within, match


def test_of_equal_values_the_scope_decides(tmp_path):
    """Nothing of the probe is negative in front of the ReLU, so that both tensors hold the same numbers."""
    inputs = keras.Input((4,), name="x")
    joined = layers.Concatenate(name="joined")([inputs, inputs])
    outputs = [layers.Dense(2)(layers.ReLU(name="cut")(joined)), layers.Dense(2)(joined)]
    file = tfbig.export(keras.Model(inputs, outputs), tmp_path / "m.tflite")
    probe, value = np.ones((1, 4), "float32"), np.ones((1, 8), "float32")
    learned = [(value, (-3.0, 2.0), "joined_1"), (value, (0.0, 5.0), "cut_1")]
    for known in (learned, learned[::-1]):
        found = match(file.read_bytes(), {"x": probe}, known)
        assert {values for name, values in found.items() if "cut" in name} == {(0.0, 5.0)}
        assert {values for name, values in found.items() if "joined" in name} == {(-3.0, 2.0)}


def test_scopes_are_whole_words():
    assert is_within("model/cut_1/Relu", "cut_1") and is_within("cut/Relu", "cut")
    assert not is_within("cut_1/Relu", "cut") and not is_within("haircut/Relu", "cut")
