"""Cutting, sharding and shuffling against what they promise."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfbig.data.batching import batches, own_shard, shuffled, split
from tfbig.errors import InvalidData


@settings(max_examples=60, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    validation=st.sampled_from([0.1, 0.25, 0.5]),
    test=st.sampled_from([0.0, 0.2]),
    seed=st.integers(0, 1000),
)
def test_split_is_a_stratified_partition(counts, validation, test, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    if len(labels) < 4:
        return
    parts = split(labels, validation=validation, test=test, seed=seed)
    together = np.concatenate(list(parts.values()))
    np.testing.assert_array_equal(np.sort(together), np.arange(len(labels)))
    for name, share in {"validation": validation, "test": test}.items():
        if share:
            assert len(parts[name]) == max(1, round(len(labels) * share))
            got = np.bincount(labels[parts[name]], minlength=len(counts))
            assert np.abs(got - np.array(counts) * len(parts[name]) / len(labels)).max() < 2


def test_split_depends_on_the_seed_alone():
    labels = np.arange(100) % 5
    one, two = (split(labels, validation=0.1, test=0.2, seed=7) for _ in range(2))
    other = split(labels, validation=0.1, test=0.2, seed=8)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not np.array_equal(one["test"], other["test"])


def test_split_of_too_few():
    with pytest.raises(InvalidData, match="has 2 samples, too few to cut test and validation from.*at least 4"):
        split(np.array([0, 1]), validation=0.1, test=0.2, seed=0)


def test_shards_leave_no_worker_with_more():
    parts = [own_shard(np.arange(11), (i, 3)) for i in range(3)]
    assert [len(part) for part in parts] == [3, 3, 3]
    assert len(set(np.concatenate(parts).tolist())) == 9
    with pytest.raises(InvalidData, match="asks for 3 parts of 2 training samples"):
        own_shard(np.arange(2), (0, 3))


def _orders(epochs: int, *, skip: int = 0, seed: int = 5) -> list[list[int]]:
    dataset = batches(np.arange(30), lambda i: (i, i), batch_size=7, seed=seed)
    for _ in range(skip):
        next(iter(dataset))
    return [[int(v) for x, _ in dataset for v in x] for _ in range(epochs)]


def test_every_epoch_has_its_own_order_and_all_samples():
    epochs = _orders(3)
    assert len({tuple(order) for order in epochs}) == 3
    assert all(sorted(order) == list(range(30)) for order in epochs)


def test_a_later_epoch_is_reached_by_one_batch_each():
    assert _orders(1, skip=2) == _orders(3)[2:]


@pytest.mark.parametrize("seed", [0, 1, 2**31])
def test_the_global_seed_plays_no_part(seed):
    first = _orders(2, seed=seed)
    keras.utils.set_random_seed(1234)
    assert _orders(2, seed=seed) == first


def test_without_seed_the_order_stays():
    dataset = batches(np.array([3, 1, 2]), lambda i: (i, i), batch_size=2)
    assert [x.numpy().tolist() for x, _ in dataset] == [[3, 1], [2]]


def test_shuffled_keeps_nested_elements_together():
    dataset = tf.data.Dataset.range(20).map(lambda i: ({"a": i, "b": [i, i]}, tf.strings.as_string(i)))
    elements = list(shuffled(dataset, buffer=20, seed=0))
    assert all(int(x["a"]) == int(x["b"][1]) == int(y) for x, y in elements)
    assert sorted(int(y) for _, y in elements) == list(range(20)) != [int(y) for _, y in elements]
