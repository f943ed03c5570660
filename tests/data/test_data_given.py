"""Data that the user has already: what passes through, and what is made of arrays."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import tfbig.data


def _dataset(n: int = 12) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((np.zeros((n, 5), np.float32), np.arange(n) % 3)).batch(4)


def test_data_is_returned_as_it_is():
    data = tfbig.data.load("digits")
    assert tfbig.data.load(data) is data


def test_a_dataset_passes_through_uncut():
    dataset = _dataset()
    data = tfbig.data.load(dataset)
    assert data.train is dataset and data.validation is None and data.test is None
    assert data.spec.input_shape == (5,) and data.spec.dtype == "float32" and data.spec.classes is None


def test_an_object_with_splits_passes_through():
    given = SimpleNamespace(train=_dataset(), validation=None, test=_dataset())
    data = tfbig.data.load(given)
    assert data.train is given.train and data.test is given.test and data.validation is None


def test_several_inputs_are_described():
    dataset = tf.data.Dataset.from_tensors(({"a": tf.zeros((2, 3)), "b": tf.constant([b"x", b"y"])}, tf.zeros(2)))
    spec = tfbig.data.load(dataset).spec
    assert spec.input_shape == {"a": (3,), "b": ()} and spec.dtype == {"a": "float32", "b": "string"}


def test_a_pair_of_arrays_is_cut():
    x, y = np.arange(40).reshape(20, 2), np.arange(20) % 2
    before = x.copy(), y.copy()
    data = tfbig.data.load((x, y), batch_size=3)
    assert data.spec.samples == {"train": 14, "validation": 2, "test": 4} and data.spec.classes == 2
    for split in (data.train, data.validation, data.test):
        for xs, ys in split:
            np.testing.assert_array_equal(xs[:, 0] // 2 % 2, ys)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_kerass_own_pairs_keep_their_test_split():
    train, test = (np.ones((20, 2)), np.arange(20) % 2), (np.zeros((6, 2)), np.arange(6) % 2)
    data = tfbig.data.load((train, test))
    assert data.spec.samples == {"train": 18, "validation": 2, "test": 6}
    assert float(tf.reduce_sum(next(iter(data.test))[0])) == 0


def test_an_object_with_arrays():
    pair = np.zeros((6, 2)), np.arange(6) % 2
    data = tfbig.data.load(SimpleNamespace(train=pair, validation=pair, test=pair))
    assert data.spec.samples == {"train": 6, "validation": 6, "test": 6}


@pytest.mark.parametrize(
    ("labels", "ids", "names"),
    [
        (np.array([[0], [2], [1]] * 5), [0, 2, 1], None),
        (np.eye(3)[[0, 2, 1] * 5], [0, 2, 1], None),
        (np.array([0.0, 2.0, 1.0] * 5), [0, 2, 1], None),
        (np.array([False, True, True] * 5), [0, 1, 1], None),
        (np.array(["b", "c", "a"] * 5), [1, 2, 0], ("a", "b", "c")),
        (np.array([b"b", b"c", b"a"] * 5), [1, 2, 0], ("a", "b", "c")),
        (np.array(["2", "10", "0"] * 5), [2, 10, 0], None),
    ],
)
def test_labels_of_every_kind(labels, ids, names):
    x = np.tile(np.arange(3)[:, None], (5, 1))
    data = tfbig.data.load((x, labels), batch_size=100)
    xs, ys = next(iter(data.train))
    assert all(ids[int(a)] == int(b) for a, b in zip(xs[:, 0], ys, strict=True))
    assert data.spec.class_names == names and data.spec.classes == max(ids) + 1


@pytest.mark.parametrize(
    ("labels", "shape", "dtype"),
    [
        (np.linspace(-1, 1, 20), (), "float32"),
        (np.linspace(-1, 1, 20)[:, None], (1,), "float32"),
        ((np.arange(40).reshape(20, 2) % 3 > 0).astype(int), (2,), "int64"),
        (np.arange(20 * 9).reshape(20, 3, 3) % 4, (3, 3), "int64"),
    ],
    ids=["regression", "column", "several classes at once", "class of each pixel"],
)
def test_labels_that_are_values(labels, shape, dtype):
    x = np.arange(20)[:, None]
    data = tfbig.data.load((x, labels), batch_size=5)
    assert data.spec.classes is None and data.spec.samples == {"train": 14, "validation": 2, "test": 4}
    for split in (data.train, data.validation, data.test):
        assert split.element_spec[1].shape[1:] == shape and split.element_spec[1].dtype == dtype
        for xs, ys in split:
            np.testing.assert_allclose(ys, labels[xs[:, 0]], atol=1e-6)


def test_several_inputs_and_outputs():
    age, code = np.linspace(0, 1, 20)[:, None], np.arange(20)
    targets = {"price": age * 2, "kind": code % 3}
    data = tfbig.data.load(({"age": age, "code": code}, targets), batch_size=5)
    assert data.spec.input_shape == {"age": (1,), "code": ()}
    assert data.spec.dtype == {"age": "float32", "code": "int64"}
    listed = tfbig.data.load(([age, code], [age * 2, code % 3]), batch_size=5)
    assert listed.spec.input_shape == ((1,), ())
    for (x, y), (first, second) in zip(data.train, listed.train, strict=True):
        np.testing.assert_array_equal(x["code"] % 3, y["kind"])
        np.testing.assert_allclose(x["age"] * 2, y["price"])
        np.testing.assert_array_equal(first[1], x["code"])
        np.testing.assert_array_equal(second[1], y["kind"])


def test_several_inputs_of_different_lengths():
    with pytest.raises(tfbig.errors.InvalidData, match="one length: x has 20 and 19 samples, y has 20"):
        tfbig.data.load(([np.zeros((20, 2)), np.zeros(19)], np.zeros(20)))
