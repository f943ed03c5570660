"""Splits as `compress` is given them: every kind that Keras's `fit` takes, mixed, and nothing cut."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig.data
from tfbig.errors import InvalidArgument, InvalidData

X, Y = np.arange(20, dtype="float32").reshape(10, 2), np.arange(10) % 2
DATASET = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)


class Sequence(keras.utils.PyDataset):
    epochs = 0

    def on_epoch_end(self):
        self.epochs += 1

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


def samples(split):
    return sum(len(batch[0]) for batch in split)


@pytest.mark.parametrize("train", [(X, Y), DATASET, Sequence()], ids=["arrays", "dataset", "PyDataset"])
@pytest.mark.parametrize("validation", [(X[:6], Y[:6]), DATASET.take(1), None], ids=["arrays", "dataset", "none"])
def test_kinds_can_be_mixed_and_nothing_is_cut(train, validation):
    data = tfbig.data.splits(train=train, validation=validation)
    assert samples(data.train) == 10 and int(data.train.cardinality()) in (1, 3) and data.test is None
    assert (data.validation is None) == (validation is None)
    if isinstance(validation, tuple):
        (batch,) = data.validation
        np.testing.assert_array_equal(batch[0], X[:6])  # in its own order
        np.testing.assert_array_equal(batch[1], Y[:6])


def test_weights_come_along_with_their_samples():
    weights = np.linspace(0, 1, 10)
    ((x, y, w),) = tfbig.data.splits(train=(X, Y, weights)).train
    assert w.dtype == tf.float32
    np.testing.assert_allclose(w, weights[(x[:, 0] / 2).numpy().astype(int)], rtol=1e-6)
    with pytest.raises(InvalidData, match="x has 10 samples, y has 10 and 9"):
        tfbig.data.splits(train=(X, Y, weights[:9]))


def test_numbers_stay_what_they_are_where_ids_are_not_wanted():
    one_hot = np.eye(2, dtype="float32")[Y]
    assert tfbig.data.splits(train=(X, one_hot)).train.element_spec[1].shape.rank == 1
    ((_, kept),) = tfbig.data.splits(train=(X, one_hot), ids=False).train
    assert kept.shape == (10, 2)
    ages = np.arange(10) * 50 - 100  # negative, and unknown to other splits
    data = tfbig.data.splits(train=(X, ages), test=(X, ages + 1000), ids=False)
    np.testing.assert_array_equal(next(iter(data.test))[1], ages + 1000)
    ((_, named),) = tfbig.data.splits(train=(X, np.array(["b", "a"] * 5)), ids=False).train
    assert named.dtype == tf.int64
    assert tfbig.data.load((X, ages), ids=False).spec.classes is None


def test_a_dataset_that_does_not_know_its_length_is_counted():
    filtered = DATASET.unbatch().filter(lambda x, y: y == 0).batch(2)
    assert int(tfbig.data.splits(train=filtered).train.cardinality()) == 3
    with pytest.raises(InvalidData, match="`train` is empty: it has no batch."):
        tfbig.data.splits(train=filtered.filter(lambda x, y: False))


def test_what_never_ends_and_what_is_no_data():
    with pytest.raises(InvalidArgument, match=r"`validation` never ends \(it is repeated\). Leave `.repeat\(\)` out"):
        tfbig.data.splits(train=DATASET, validation=DATASET.repeat())
    with pytest.raises(InvalidArgument, match="`test` must be a batched tf.data.Dataset, arrays .*received dict"):
        tfbig.data.splits(train=DATASET, test={"x": X})


def test_a_sequence_with_workers_ends_and_hears_of_it():
    sequence = Sequence(workers=2, use_multiprocessing=False)
    train = tfbig.data.splits(train=sequence).train
    for epoch in (1, 2):
        np.testing.assert_array_equal(np.concatenate([x for x, _ in train]), X)
        assert sequence.epochs == epoch


def test_names_have_the_same_numbers_in_all_splits():
    names = np.array(list("abcd") * 3)[:10]
    data = tfbig.data.splits(train=(X, names), validation=(X[:2], names[1:3]), test=DATASET)
    np.testing.assert_array_equal(next(iter(data.validation))[1], [1, 2])
    with pytest.raises(InvalidData, match="The labels of `validation` are names, but `train` is no array"):
        tfbig.data.splits(train=DATASET, validation=(X[:2], names[:2]))


def test_arrays_beside_a_dataset_of_one_hot_rows_stay_one_hot():
    rows = np.eye(2, dtype="float32")[Y]
    data = tfbig.data.splits(train=tf.data.Dataset.from_tensor_slices((X, rows)).batch(4), test=(X, rows))
    assert next(iter(data.test))[1].shape == (10, 2)


@pytest.mark.parametrize("labels", [Y, np.eye(2, dtype="float32")[Y]], ids=["numbers", "one-hot"])
def test_the_same_samples_are_cut_whether_as_ids_or_not(labels):
    cut = [tfbig.data.load((X, labels), ids=ids) for ids in (True, False)]
    for name in ("validation", "test"):
        one, other = (np.concatenate([x for x, _ in getattr(data, name)]) for data in cut)
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        (
            tf.data.Dataset.from_tensor_slices({"x": X, "y": Y}).batch(4),
            r"The train dataset must yield pairs \(x, y\).*\.map\(lambda d: \(d\['x'\], d\['y'\]\)\)\.$",
        ),
        (
            tf.data.Dataset.from_tensor_slices({"a": X, "b": X, "y": Y}).batch(4),
            r"\.map\(lambda d: \(\{'a': d\['a'\], 'b': d\['b'\]\}, d\['y'\]\)\)\.$",
        ),
        (tf.data.Dataset.from_tensor_slices(X).batch(4), r"\.map\(lambda x: \(x, x\)\) for a model that reproduces"),
    ],
    ids=["dict", "several inputs", "inputs alone"],
)
def test_elements_that_are_no_pairs_are_told_how_to_become_some(dataset, text):
    with pytest.raises(InvalidData, match=text):
        tfbig.data.splits(train=dataset)
