"""Operations timed one by one."""

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import InvalidFile


def test_the_operation_with_the_work_takes_the_time(folder, convert):
    inputs = keras.Input((64, 64, 8), batch_size=1)
    x = keras.layers.Conv2D(32, 5, padding="same", name="large")(inputs)
    x = keras.layers.Conv2D(2, 1, strides=8, name="small")(x)
    path = folder / "uneven.tflite"
    path.write_bytes(convert(keras.Model(inputs, x)))
    assert all(op.milliseconds is None for op in tfbig.inspect(path).ops)
    large, small = (op.milliseconds for op in tfbig.inspect(path, times=True).ops if op.weights)
    assert large > 3 * small > 0


@pytest.mark.parametrize("name", ["float_file", "int8_file", "dynamic_file", "int4_file", "sparse_file"])
def test_every_operation_of_every_kind_of_file_is_timed(name, request):
    ops = tfbig.inspect(request.getfixturevalue(name), times=True).ops
    assert all(op.milliseconds is not None and 0 < op.milliseconds < 100 for op in ops if op.weights)


def test_what_cannot_run_alone_has_no_time(recurrent_file):
    ops = tfbig.inspect(recurrent_file[0], times=True).ops
    assert ops and all(op.milliseconds is None or op.milliseconds > 0 for op in ops)
    assert any(op.milliseconds for op in ops if op.type == "FULLY_CONNECTED")


def test_a_damaged_file_is_not_run(float_file, folder):
    path = folder / "cut.tflite"
    path.write_bytes(float_file.read_bytes()[: float_file.stat().st_size // 2])
    with pytest.raises(InvalidFile, match="damaged"):
        tfbig.inspect(path, times=True)


def test_indices_stay_in_their_table(folder, convert):
    inputs = keras.Input((3,), batch_size=1, dtype="int32")
    path = folder / "indices.tflite"
    path.write_bytes(convert(keras.Model(inputs, keras.layers.Embedding(5, 4)(inputs))))
    assert np.any([op.milliseconds for op in tfbig.inspect(path, times=True).ops if op.type == "GATHER"])
