"""Training data in whatever form it comes, as batched datasets of known length."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.data.batching import batches, untuned
from tfbig.data.sequences import from_sequence
from tfbig.errors import InvalidArgument, InvalidData

_FIRST = 8  # batches that show what kind of numbers labels are


@dataclasses.dataclass(frozen=True)
class Feed:
    """What `fit` trains on.

    Attributes:
        train: batches of `(x, y)` or `(x, y, sample_weight)`; a new order each time it is iterated.
        steps: batches of one epoch, None if that is not known before its end.
        validation: batches to evaluate on, or None.
        endless: whether one iterator goes on over all epochs, each `steps` batches long.
    """

    train: tf.data.Dataset
    steps: int | None
    validation: tf.data.Dataset | None
    endless: bool = False

    @property
    def label_spec(self) -> Any:
        """Shape and type of a batch of labels."""
        element = self.train.element_spec
        return element[1] if isinstance(element, tuple) and len(element) > 1 else None

    def first_labels(self) -> Any:
        """Labels of the first batches; of validation if there is such, for reading `train` moves its shuffling on."""
        return [batch[1] for batch in (self.train if self.validation is None else self.validation).take(_FIRST)]

    def epochs_from(self, epoch: int, batch: int) -> tf.data.Dataset:
        """The dataset whose next iteration goes on at `batch` of `epoch`, as if everything before had been read.

        Each earlier epoch was one iteration of the dataset, which is what moves its shuffling on.
        """
        if self.endless:
            return self.train.skip(epoch * (self.steps or 0) + batch)
        for _ in range(epoch):
            next(iter(self.train), None)
        return self.train.skip(batch) if batch else self.train


def feed(
    data: Any,
    *,
    validation_data: Any = None,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int = 0,
    class_weight: dict[int, float] | None = None,
    steps_per_epoch: int | None = None,
) -> Feed:
    """Turns `data` into a `Feed`.

    Args:
        data: `tfbig.data.Data`, a batched `tf.data.Dataset`, arrays `(x, y)` or `(x, y, sample_weight)`, or what
            else Keras's `fit` takes as `x` (a `PyDataset`, a generator).
        validation_data: the same forms; by default the validation split of a `Data`.
        batch_size, shuffle, seed: for arrays only.
        class_weight: weight of the loss for each class id.
        steps_per_epoch: length of an epoch, for data that does not end or not there.

    Raises:
        InvalidArgument: data of a kind that nothing here reads, or class weights for several labels.
        InvalidData: empty data, or arrays of different lengths.
    """
    if hasattr(data, "train"):
        validation_data = validation_data if validation_data is not None else getattr(data, "validation", None)
        data = data.train
    train = _dataset(data, "data", batch_size, seed if shuffle else None)
    if class_weight:
        _check_one_label(train)
        train = train.map(_Weighting(class_weight), num_parallel_calls=tf.data.AUTOTUNE)
    validation = None if validation_data is None else _dataset(validation_data, "validation_data", batch_size, None)
    if steps_per_epoch is not None:
        return Feed(train.repeat(), steps_per_epoch, validation, endless=True)
    return Feed(train, _length(train), validation)


def _check_one_label(train: tf.data.Dataset) -> None:
    labels = len(tf.nest.flatten(train.element_spec[1]))
    if labels > 1:
        raise InvalidArgument(
            f"`class_weight` is for data with one label for each sample, received {labels}. Give sample weights "
            "instead, (x, y, sample_weight), one for each output."
        )


def _length(dataset: tf.data.Dataset) -> int | None:
    count = int(dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise InvalidArgument("`data` never ends (it is repeated): pass steps_per_epoch, or do not repeat it.")
    if count == 0:
        raise InvalidData("`data` is empty: it has no batch to train on.")
    return count if count > 0 else None


def _dataset(data: Any, name: str, batch_size: int, seed: int | None) -> tf.data.Dataset:
    if isinstance(data, tf.data.Dataset):
        return untuned(data)
    if isinstance(data, tuple | list) and len(data) in (2, 3):
        return _from_arrays(tuple(data), name, batch_size, seed)
    if isinstance(data, keras.utils.PyDataset):
        return from_sequence(data)
    if hasattr(data, "__next__"):
        from keras.src.trainers.data_adapters import get_data_adapter  # What Keras's own fit uses.

        return untuned(get_data_adapter(data).get_tf_dataset())
    raise InvalidArgument(
        f"`{name}` must be a tfbig.data.Data, a batched tf.data.Dataset, arrays (x, y), or a keras "
        "PyDataset, "
        f"received {type(data).__name__}."
    )


def _from_arrays(arrays: tuple, name: str, batch_size: int, seed: int | None) -> tf.data.Dataset:
    arrays = keras.tree.map_structure(np.asarray, arrays)
    lengths = {len(array) if array.ndim else 0 for array in keras.tree.flatten(arrays)}
    if len(lengths) > 1:
        shapes = [array.shape for array in keras.tree.flatten(arrays)]
        raise InvalidData(f"`{name}`: all arrays must have the same number of samples, received shapes {shapes}.")
    if lengths == {0}:
        raise InvalidData(f"`{name}` is empty: it has no sample.")
    return batches(np.arange(lengths.pop()), _Gather(arrays), batch_size=batch_size, seed=seed)


class _Gather:
    """Picks samples by index; floats of 64 bits, which no layer wants, become 32."""

    def __init__(self, arrays: tuple):
        self.tensors = keras.tree.map_structure(_tensor, arrays)

    def __call__(self, indices: tf.Tensor) -> Any:
        return keras.tree.map_structure(lambda tensor: tf.gather(tensor, indices), self.tensors)


def _tensor(array: np.ndarray) -> tf.Tensor:
    with tf.device("CPU"):
        return tf.constant(array.astype(np.float32) if array.dtype == np.float64 else array)


class _Weighting:
    """Gives each sample the weight of its class, on top of the weight it has."""

    def __init__(self, weights: dict[int, float]):
        if not weights or not all(isinstance(key, int | np.integer) and key >= 0 for key in weights):
            raise InvalidArgument(f"`class_weight` must map class ids, from 0, to weights, received {weights!r}.")
        table = np.ones(max(weights) + 1, np.float32)
        table[list(weights)] = list(weights.values())
        self.table = tf.constant(table)

    def __call__(self, x: Any, y: tf.Tensor, weight: tf.Tensor | None = None) -> tuple:
        one_hot = y.shape.rank == 2 and y.shape[-1] != 1
        classes = tf.argmax(y, axis=-1) if one_hot else tf.reshape(tf.cast(y, tf.int64), [-1])
        known = tf.minimum(classes, len(self.table) - 1)
        found = tf.where(classes < len(self.table), tf.gather(self.table, known), 1.0)
        return x, y, found if weight is None else found * tf.cast(weight, tf.float32)
