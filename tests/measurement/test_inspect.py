"""`inspect` on files whose content is known, and why operations stayed float."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

import tfbig
from tfbig.measurement.inspect import Inspection, inspect


def by_type(inspection, kind):
    return next(op for op in inspection.ops if op.type == kind)


def test_a_float_file_is_not_quantized(float_file):
    result = inspect(float_file)
    assert (result.scheme, result.quantized, result.float_ops) == ("float32", False, ())
    assert result.bytes == float_file.stat().st_size and result.file == str(float_file)
    assert "The file is not quantized" in str(result)
    dense = by_type(result, "FULLY_CONNECTED")
    assert (dense.weight_dtype, dense.weight_bits, dense.weights) == ("float32", 32, 16 * 16 * 10)
    assert dense.weight_bytes == 4 * (2560 + 10)


def test_an_int8_file_has_no_float_op(cnn, int8_file):
    result = inspect(int8_file)
    assert (result.scheme, result.quantized, result.float_ops) == ("int8", True, ())
    assert "No operation stayed float." in str(result)
    convolution = by_type(result, "CONV_2D")
    assert convolution.arithmetic == "integer" and convolution.input_dtypes[:2] == ("int8", "int8")
    assert convolution.weight_bytes == 144 + 4 * 16
    assert convolution.zero_fraction >= 0.59 and convolution.weight_bits == 8
    assert convolution.distinct_per_channel <= 9 < convolution.distinct
    assert by_type(result, "DEPTHWISE_CONV_2D").distinct_per_channel <= 9
    assert result.counts["CONV_2D"] == {"integer": 1}
    assert list(result.bytes_by_dtype)[0] == "int8"


def test_a_dynamic_range_file_keeps_float_activations(dynamic_file):
    result = inspect(dynamic_file)
    assert result.scheme == "dynamic range (int8 weights)" and result.quantized
    dense = by_type(result, "FULLY_CONNECTED")
    assert dense.arithmetic == "hybrid" and dense.reason is None
    softmax = by_type(result, "SOFTMAX")
    assert softmax in result.float_ops and "activations stay float by design" in softmax.reason


def test_an_int4_file_shows_packed_weights(int4_file):
    result = inspect(int4_file)
    assert result.scheme == "weight-only (int4 weights)"
    dense = by_type(result, "FULLY_CONNECTED")
    assert (dense.weight_dtype, dense.weight_bits) == ("int4", 4) and dense.weight_bytes == 2560 // 2 + 4 * 10
    assert dense.distinct <= 16 and "stored as int4" in dense.reason


def test_a_sparse_file_counts_what_is_not_stored(float_file, sparse_file):
    sparse, dense = (by_type(inspect(p), "FULLY_CONNECTED") for p in (sparse_file, float_file))
    assert sparse.zero_fraction == dense.zero_fraction > 0.59 and sparse.distinct == dense.distinct
    assert sparse.weight_bytes < dense.weight_bytes


@pytest.fixture(scope="module")
def mixed_file(convert, folder):
    """Int8 but for a LayerNormalization and a Conv3D, which the converter leaves float."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 4, 4, 1))
    x = keras.layers.Conv3D(2, 3)(inputs)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dense(6, activation="relu")(x)
    x = keras.layers.LayerNormalization()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    path = folder / "mixed.tflite"
    calibration = np.random.default_rng(0).random((20, 4, 4, 4, 1), np.float32)
    path.write_bytes(convert(model, optimizations=[tf.lite.Optimize.DEFAULT], calibration=calibration))
    return path


def test_float_operations_in_an_int8_file_have_reasons(mixed_file):
    result = inspect(mixed_file)
    assert result.scheme == "int8"
    reasons = {op.type: op.reason for op in result.float_ops}
    assert reasons["CONV_3D"] == "LiteRT has no integer kernel for CONV_3D"
    assert "LayerNormalization" in reasons["NEG"] or "no integer kernel" in reasons["NEG"]
    assert all(reasons.values()) and not {"QUANTIZE", "DEQUANTIZE"} & set(reasons)
    assert by_type(result, "FULLY_CONNECTED").reason is None
    for reason in set(reasons.values()):
        assert reason in str(result)


def with_metadata(path, target, content: bytes):
    model = flatbuffer_utils.read_model(str(path))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(content, np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"tfbig", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    flatbuffer_utils.write_model(model, str(target))


def test_the_exporters_own_reason_comes_first(mixed_file, tmp_path):
    name = by_type(inspect(mixed_file), "CONV_3D").output
    content = json.dumps({"version": 1, "float_ops": {name: "asked for by `exempt`"}}).encode()
    with_metadata(mixed_file, tmp_path / "noted.tflite", content)
    result = inspect(tmp_path / "noted.tflite")
    assert by_type(result, "CONV_3D").reason == "asked for by `exempt`"
    assert any("asked for" not in op.reason for op in result.float_ops) and result.notes == ()


def test_unreadable_metadata_is_noted(mixed_file, tmp_path):
    with_metadata(mixed_file, tmp_path / "noted.tflite", b'{"float_ops": [1]}')
    result = inspect(tmp_path / "noted.tflite")
    assert "metadata 'tfbig' of the file cannot be read" in result.notes[0]
    assert by_type(result, "CONV_3D").reason == "LiteRT has no integer kernel for CONV_3D"


def test_recurrence_and_index_arithmetic(recurrent_file):
    result = inspect(recurrent_file[0])
    assert result.counts["UNIDIRECTIONAL_SEQUENCE_LSTM"] == {"float": 1}
    lstm = by_type(result, "UNIDIRECTIONAL_SEQUENCE_LSTM")
    assert lstm.weights == 4 * (4 * 3) + 4 * (4 * 4)


def test_shapes_are_index_arithmetic(int8_file):
    arithmetic = {op.type: op.arithmetic for op in inspect(int8_file).ops}
    assert arithmetic["SHAPE"] == arithmetic["PACK"] == "index" and arithmetic["RESHAPE"] == "integer"


def test_json_round_trip(mixed_file, float_file):
    for path in (mixed_file, float_file):
        result = inspect(path)
        assert Inspection.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_the_text_is_a_table(int8_file):
    lines = str(inspect(int8_file)).splitlines()
    assert lines[0] == f"{int8_file}: int8"
    row = next(line for line in lines if "DEPTHWISE_CONV_2D" in line)
    assert "integer" in row and "int8/int32 > int8" in row and "%" in row
    assert all(line == line.rstrip() for line in lines)


def test_it_is_the_public_name():
    assert tfbig.inspect is inspect
