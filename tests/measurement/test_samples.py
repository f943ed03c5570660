"""Data in its accepted forms becomes the same batches; anything else is refused with a reason."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tfbig.errors import InvalidData
from tfbig.measurement.samples import batches, leaves

X = np.arange(1200, dtype=np.float32).reshape(300, 4)
Y = np.arange(300)


@dataclasses.dataclass(frozen=True)
class Splits:
    train: object
    validation: object
    test: object


def gather(data):
    parts = list(batches(data))
    return np.concatenate([leaves(x)[0] for x, _ in parts]), np.concatenate([leaves(y)[0] for _, y in parts])


def test_all_forms_give_the_same_samples():
    dataset = tf.data.Dataset.from_tensor_slices((X, Y))
    weighted = tf.data.Dataset.from_tensor_slices((X, Y, np.ones(300)))
    forms = [
        (X, Y),
        (X.tolist(), Y.tolist()),
        (tf.constant(X), tf.constant(Y)),
        dataset.batch(32),
        weighted.batch(7),
        Splits(None, None, dataset.batch(300)),
    ]
    for form in forms:
        x, y = gather(form)
        np.testing.assert_array_equal(x, X)
        np.testing.assert_array_equal(y, Y)


def test_structures_are_kept():
    x = {"b": X, "a": X + 1}
    ((first_x, first_y), *_) = batches((x, (Y, Y * 2)))
    assert sorted(first_x) == ["a", "b"] and len(first_y) == 2
    np.testing.assert_array_equal(leaves(first_x)[0], first_x["a"])
    dataset = tf.data.Dataset.from_tensor_slices((x, (Y, Y * 2))).batch(4)
    ((first_x, first_y), *_) = batches(dataset)
    assert first_x["b"].shape == (4, 4) and first_y[1].tolist() == [0, 2, 4, 6]


BAD = {
    "empty arrays": ((X[:0], Y[:0]), "data set is empty: expected at least one sample, received 0"),
    "empty dataset": (tf.data.Dataset.from_tensor_slices((X[:0], Y[:0])).batch(2), "data set is empty"),
    "lengths": ((X, Y[:7]), r"as many inputs as labels, received \[7, 300\]"),
    "one array": (X, r"must be a tfbig.data object.*received ndarray"),
    "four arrays": ((X, Y, Y, Y), "received a tuple of 4"),
    "no labels": (tf.data.Dataset.from_tensor_slices(X).batch(2), r"not \(x, y\) pairs"),
    "single samples": (tf.data.Dataset.from_tensor_slices((X, Y)), r"not batched.*Add batch\(32\)"),
    "endless": (tf.data.Dataset.from_tensor_slices((X, Y)).batch(2).repeat(), r"repeats without end"),
    "no test split": (Splits(None, None, None), "received NoneType"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_data_is_refused(name):
    data, message = BAD[name]
    with pytest.raises(InvalidData, match=message):
        list(batches(data))
