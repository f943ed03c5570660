"""Keras's `PyDataset` as a `tf.data.Dataset`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.data.batching import untuned


def from_sequence(sequence: keras.utils.PyDataset) -> tf.data.Dataset:
    """The batches in their order, as often as they are asked for; `on_epoch_end` is called behind the last one.

    They are read one after another in this process: workers of the sequence's own are left out. One without an end has
    an infinite cardinality.
    """
    count = sequence.num_batches

    def batches() -> Iterator[Any]:
        for index in itertools.count() if count is None else range(count):
            yield _as_tuples(sequence[index])
        sequence.on_epoch_end()

    signature = tf.nest.map_structure(_spec, _as_tuples(sequence[0]))
    dataset = tf.data.Dataset.from_generator(batches, output_signature=signature)
    length = tf.data.INFINITE_CARDINALITY if count is None else count
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(length))
    return untuned(dataset.prefetch(tf.data.AUTOTUNE))


def _as_tuples(structure: Any) -> Any:
    """Lists of arrays as tuples, which are structures to tf.data too; numbers as arrays."""
    if isinstance(structure, dict):
        return {name: _as_tuples(part) for name, part in structure.items()}
    if isinstance(structure, tuple | list):
        return tuple(_as_tuples(part) for part in structure)
    return np.asarray(structure)


def _spec(array: np.ndarray) -> tf.TensorSpec:
    return tf.TensorSpec((None, *array.shape[1:]), array.dtype)
