"""Stored weights, packed and sparse, against the arrays they were made of."""

import numpy as np
import pytest

from tfbig.measurement.constants import stored_values, zero_mask
from tfbig.measurement.flatbuffer import read_litert
from tfbig.measurement.weights import constants_by_operation, is_weight, summarize_file


def weights_by_type(path):
    held = constants_by_operation(read_litert(path))
    return {o.type: t for o, tensors in held for t in tensors if is_weight(t, o)}


@pytest.fixture(scope="module")
def kernels(cnn):
    """The kernels as LiteRT lays them out, without the depthwise one, which takes up the BatchNormalization."""
    return {
        "CONV_2D": np.asarray(cnn.layers[1].kernel).transpose(3, 0, 1, 2),
        "FULLY_CONNECTED": np.asarray(cnn.layers[-1].kernel).T,
    }


def test_float_and_sparse_files_hold_the_kernels(kernels, float_file, sparse_file):
    for path in (float_file, sparse_file):
        for name, kernel in kernels.items():
            np.testing.assert_array_equal(stored_values(weights_by_type(path)[name]), kernel)
    assert any(t.sparsity for t in weights_by_type(sparse_file).values())


def test_quantized_files_hold_the_rounded_kernels(kernels, int8_file, dynamic_file, int4_file):
    for path, limit in ((int8_file, 127), (dynamic_file, 127), (int4_file, 7)):
        for name, kernel in kernels.items():
            tensor = weights_by_type(path)[name]
            if not tensor.is_quantized:
                continue
            values = stored_values(tensor)
            shape = [-1 if axis == tensor.axis and tensor.scales.size > 1 else 1 for axis in range(kernel.ndim)]
            scales = tensor.scales.reshape(shape)
            assert np.abs(values).max() <= limit
            assert np.all(np.abs(values * scales - kernel) <= scales * 0.51)


def test_zeros_survive_in_every_format(float_file, sparse_file, int8_file, int4_file):
    asked = (round(0.6 * 144) * 2 + round(0.6 * 2560)) / 2848
    for path in (float_file, sparse_file):
        assert summarize_file(read_litert(path)).zero_fraction == asked
    for path in (int8_file, int4_file):
        assert summarize_file(read_litert(path)).zero_fraction >= asked
    assert len(np.unique(stored_values(weights_by_type(int4_file)["FULLY_CONNECTED"]))) <= 16


def test_parameters_are_those_of_the_folded_model(cnn, float_file, sparse_file):
    normalization = sum(int(np.prod(w.shape)) for w in cnn.layers[3].weights)
    expected = cnn.count_params() - normalization
    assert summarize_file(read_litert(float_file)).parameters == expected
    assert summarize_file(read_litert(sparse_file)).parameters == expected


def test_a_zero_point_is_a_zero():
    import dataclasses

    from tfbig.measurement.flatbuffer import Tensor

    raw = np.array([3, 5, 5, 3], np.int8).view(np.uint8)
    tensor = Tensor(0, "w", "int8", (2, 2), (2, 2), np.ones(2), np.array([3, 5]), 0, False, 1, raw)
    assert zero_mask(tensor, stored_values(tensor)).tolist() == [[True, False], [True, False]]
    columns = dataclasses.replace(tensor, axis=1)
    assert zero_mask(columns, stored_values(columns)).tolist() == [[True, True], [False, False]]


def test_small_integers_unpack_low_bits_first():
    from tfbig.measurement.flatbuffer import Tensor

    def packed(dtype, data, shape):
        raw = np.array(data, np.uint8)
        return stored_values(Tensor(0, "w", dtype, shape, shape, np.ones(1), np.zeros(1), 0, False, 1, raw))

    assert packed("int4", [0xF1, 0x08], (3,)).tolist() == [1, -1, -8]
    assert packed("uint4", [0xF1], (2,)).tolist() == [1, 15]
    assert packed("int2", [0b11100100], (4,)).tolist() == [0, 1, -2, -1]
