"""What computes for a logarithm or a division stays float after training too, and nothing else does."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfbig
from tfbig.exporters.tensor_ranges import Op
from tfbig.measurement.litert import run_litert

X = (np.random.default_rng(0).normal(size=(64, 12, 16)) * 10.0 ** -np.arange(64)[:, None, None].clip(0, 3)).astype(
    "float32"
)


def quantized(body, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 16))
    y = layers.Conv1D(8, 3, name="first")(inputs)
    model = keras.Model(inputs, layers.Dense(3, name="last")(body(y)))
    file = tfbig.export(model, tmp_path / "m.tflite", quantize="int8", calibration=X)
    want, got = model.predict(X, verbose=0), run_litert(file, [X])[0]
    return tfbig.inspect(file), 10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2))


@pytest.mark.parametrize(
    ("body", "kinds"),
    [
        (lambda y: ops.log(ops.square(y) + 1e-4), {"LOG", "ADD"}),
        (layers.Activation("softplus"), {"LOG", "EXP", "ADD"}),
        (lambda y: ops.log(ops.softmax(y) + 1e-6), {"LOG", "SOFTMAX", "ADD"}),
    ],
    ids=["power", "softplus", "classes"],
)
def test_small_numbers_before_a_logarithm_are_kept(body, kinds, tmp_path):
    inspection, decibels = quantized(body, tmp_path)
    assert decibels > 15
    floats = {op.type for op in inspection.float_ops}
    assert kinds <= floats
    integers = {op.type for op in inspection.ops if op.arithmetic == "integer"}
    assert {"CONV_2D", "FULLY_CONNECTED"} <= integers and not {"CONV_2D", "FULLY_CONNECTED"} & floats


def test_a_pattern_matches_one_operation():
    import re

    short = Op("a/Squeeze", "RESHAPE", (), (), (), ("a/Squeeze",))
    fused = Op("a/Squeeze;a/Relu", "CONV_2D", (), (), (), ("a/Squeeze;a/Relu",))
    assert re.search(short.pattern, "a/Squeeze;") and not re.search(short.pattern, "a/Squeeze;a/Relu;")
    assert re.search(fused.pattern, "a/Squeeze;a/Relu;") and not re.search(fused.pattern, "a/Squeeze;")
