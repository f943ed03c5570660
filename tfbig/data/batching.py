"""From samples to splits, shards and shuffled batches; the order is given by the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfbig.data.dataset import LoadOptions
from tfbig.errors import InvalidData

SPLITS = ("train", "validation", "test")
TEST_SHARE = 0.2  # cut from sources that have no test split of their own


def allot(
    labels: Mapping[str, np.ndarray], options: LoadOptions, *, cut: bool = True
) -> dict[str, tuple[str, np.ndarray]]:
    """Says for each split which given split it is read from, and the sample indices there.

    Splits that are missing are cut from train, stratified, if `cut`; train is then cut to this worker's shard.
    Validation and test stay whole, so that all workers measure the same.

    Args:
        labels: class ids `(samples,)` of each given split, "train" at least.
    """
    parts = {name: (name, np.arange(len(ids))) for name, ids in labels.items()}
    if cut and (missing := [name for name in SPLITS if name not in labels]):
        cuts = split(
            labels["train"],
            validation=options.validation if "validation" in missing else 0.0,
            test=TEST_SHARE if "test" in missing else 0.0,
            seed=options.seed,
        )
        parts |= {name: ("train", indices) for name, indices in cuts.items()}
    parts["train"] = ("train", own_shard(parts["train"][1], options.shard))
    return {name: parts[name] for name in SPLITS if name in parts}


def split(labels: np.ndarray, *, validation: float, test: float, seed: int) -> dict[str, np.ndarray]:
    """Cuts samples into train, validation and test, stratified by label.

    Systematic sampling: samples are put in random order within their class, the classes one after the other,
    and every k-th goes to a split. Each class gives its share to within one sample, and the totals are exact.

    Args:
        labels: class id of each sample, `(samples,)`.
        validation: share of all samples for validation, in [0, 1).
        test: share of all samples for test, in [0, 1).

    Returns:
        Sorted sample indices of each split that has a share, and of "train".

    Raises:
        InvalidData: too few samples for each split to have one.
    """
    shares = {"test": test, "validation": validation}
    counts = {name: max(1, round(len(labels) * share)) for name, share in shares.items() if share}
    if sum(counts.values()) >= len(labels):
        raise InvalidData(
            f"The data has {len(labels)} samples, too few to cut {' and '.join(counts)} from. "
            f"Give at least {len(counts) + 2} samples, or the splits separately."
        )
    rest = np.random.default_rng(seed).permutation(len(labels))
    rest = rest[np.argsort(np.asarray(labels)[rest], kind="stable")]
    parts = {}
    for name, count in counts.items():
        chosen = ((np.arange(count) + 0.5) * len(rest) / count).astype(int)
        parts[name] = np.sort(rest[chosen])
        rest = np.delete(rest, chosen)
    return {"train": np.sort(rest), **parts}


def own_shard(indices: np.ndarray, shard: tuple[int, int] | None) -> np.ndarray:
    """Returns the indices of one worker; all get equally many, so that none waits for another in vain.

    Args:
        shard: `(index, count)`: which worker this is, and how many there are; None keeps everything.

    Raises:
        InvalidData: fewer samples than workers.
    """
    if shard is None:
        return indices
    index, count = shard
    if len(indices) < count:
        raise InvalidData(
            f"`shard` asks for {count} parts of {len(indices)} training samples. Use fewer workers or more data."
        )
    return indices[: len(indices) // count * count][index::count]


def batches(
    indices: np.ndarray,
    read: Callable[[tf.Tensor], Any],
    *,
    batch_size: int,
    seed: int | None = None,
    one_by_one: bool = False,
) -> tf.data.Dataset:
    """Builds a batched dataset that reads its samples by index, so that shuffling never moves the samples.

    Args:
        read: turns a vector of indices `(batch,)` into a batch `(x, y)`; with `one_by_one`, one index into
            one sample.
        seed: shuffles all indices, anew each epoch; None keeps their order.
    """
    dataset = tf.data.Dataset.from_tensor_slices(np.asarray(indices, np.int64))
    if seed is not None:
        dataset = shuffled(dataset, buffer=max(1, len(indices)), seed=seed)
    if one_by_one:
        dataset = dataset.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(batch_size)
    else:
        dataset = dataset.batch(batch_size).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    return untuned(dataset.prefetch(tf.data.AUTOTUNE))


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Turns off what tunes a pipeline while it runs, unless the dataset says whether it wants it.

    When an iterator ends it waits for its tuner, which sleeps twice as long each time: now and then an epoch takes
    twice its time. Without a tuner, what says AUTOTUNE runs on all cores, and prefetching still finds its size.
    """
    if dataset.options().autotune.enabled is not None:
        return dataset
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def shuffled(dataset: tf.data.Dataset, *, buffer: int, seed: int) -> tf.data.Dataset:
    """Shuffles through a buffer, anew each epoch; the orders depend on `seed` and nothing else."""
    # `Dataset.shuffle` mixes in the global seed: `keras.utils.set_random_seed` must not change the data's
    # order.
    parts = tf.nest.flatten(dataset.element_spec)
    variant = tf.raw_ops.ShuffleDatasetV3(
        input_dataset=tf.data.experimental.to_variant(dataset),
        buffer_size=buffer,
        seed=seed,
        seed2=1,  # two zeros would mean "any order"
        seed_generator=tf.raw_ops.DummySeedGenerator(),
        reshuffle_each_iteration=True,
        output_types=[part.dtype for part in parts],
        output_shapes=[part.shape for part in parts],
    )
    return tf.data.experimental.from_variant(variant, dataset.element_spec)
