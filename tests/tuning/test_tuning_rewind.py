"""A rewound dataset gives the orders of a fresh one, whatever was read of it before."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfbig.tuning.rewind import rewound, rewound_dataset


def epochs(dataset, count=2):
    return [np.concatenate([y for _, y in dataset.as_numpy_iterator()]) for _ in range(count)]


def users_own():
    dataset = tf.data.Dataset.range(50).map(lambda i: (tf.cast(i, tf.float32), i))
    return dataset.shuffle(50, seed=3).batch(8)


def with_python_inside():
    def doubled(x, y):
        return tf.ensure_shape(tf.numpy_function(lambda v: v * 2, [x], tf.float32), [None]), y

    return users_own().map(doubled).prefetch(2)


@pytest.mark.parametrize("make", [users_own, with_python_inside, lambda: users_own().cache()])
def test_copy_begins_with_the_seed(make):
    dataset = make()
    fresh = epochs(make())
    epochs(dataset, 3)
    for _ in range(2):
        np.testing.assert_array_equal(epochs(rewound_dataset(dataset)), fresh)


def test_data_of_tfbig_begins_anew_and_loses_its_test_split(fresh_digits):
    data, other = fresh_digits(), fresh_digits()
    expected = epochs(other.train)
    epochs(data.train, 1)
    again = rewound(data)
    np.testing.assert_array_equal(epochs(again.train), expected)
    assert again.test is None and again.validation is data.validation and again.spec is data.spec


def test_generator_passes_through():
    def generate():
        for start in range(3):
            yield np.full((2, 3), start, "float32"), np.array([start, start])

    spec = (tf.TensorSpec((None, 3)), tf.TensorSpec((None,), tf.int64))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=spec)
    np.testing.assert_array_equal(epochs(rewound_dataset(dataset)), epochs(dataset))
