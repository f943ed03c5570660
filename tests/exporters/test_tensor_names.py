"""Names of fused operations are cut short, stay unique, and still say what stayed float."""

from __future__ import annotations

import keras
from keras import layers

import tfbig
from tfbig.measurement.flatbuffer import read_litert


def names(path) -> list[str]:
    return [tensor.name for _, op in read_litert(path).operations() for tensor in op.outputs]


def test_names_are_short_and_unique(small_model, digits_arrays, tmp_path):
    for options in ({}, {"quantize": "int8", "calibration": digits_arrays["x_train"]}):
        found = names(tfbig.export(small_model, tmp_path / "m.tflite", **options))
        assert not [name for name in found if ";" in name]
        assert len(set(found)) == len(found) >= 6
        assert any("stem" in name for name in found)


def test_reasons_of_float_operations_follow_their_names(fresh_digits, tmp_path):
    keras.utils.set_random_seed(0)
    kept = [layers.Conv2D(4, 3, activation="relu", name="kept"), layers.Flatten(), layers.Dense(10, name="last")]
    model = keras.Sequential([keras.Input((8, 8, 1)), *kept])
    prepared = tfbig.Quantize("int8", exempt=["kept"]).prepare(model)
    prepared.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    prepared.fit(fresh_digits().train, epochs=1, verbose=0, shuffle=False)
    inspection = tfbig.inspect(tfbig.export(prepared, tmp_path / "m.tflite"))
    assert [(op.type, "exempt" in op.reason) for op in inspection.float_ops] == [("CONV_2D", True)]


def test_names_inside_loops_do_not_repeat_the_loops(tmp_path):
    model = keras.Sequential([keras.Input((6, 4)), layers.LSTM(4, name="a_name_that_is_long"), layers.Dense(2)])
    file = tfbig.export(model, tmp_path / "m.tflite", quantize="dynamic")
    inside = [tensor.name for graph in read_litert(file).graphs[1:] for op in graph.operations for tensor in op.outputs]
    assert inside and not any("a_name_that_is_long" in name for name in inside)
    assert tfbig.inspect(tfbig.export(model, tmp_path / "q.tflite", quantize="int8", calibration=1)).float_ops[0].reason
