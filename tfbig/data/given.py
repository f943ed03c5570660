"""Data that the user already has: datasets, arrays, or an object with splits."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.data.arrays import from_arrays
from tfbig.data.batching import SPLITS
from tfbig.data.dataset import Data, DataSpec, LoadOptions, nested
from tfbig.data.sequences import from_sequence
from tfbig.errors import InvalidArgument, InvalidData


def from_user(data: Any, options: LoadOptions) -> Data:
    """Takes data in memory as `Data`; datasets pass through untouched.

    A `tf.data.Dataset` is the training split as it is, batched by the user; nothing is cut from it, since a
    dataset that is shuffled anew each epoch would leak one split into another. Arrays are treated as any
    source.

    Args:
        data: `Data`, a `tf.data.Dataset`, `(x, y)`, `((x_train, y_train), (x_test, y_test))`, or an object
            with `.train` and perhaps `.validation` and `.test`, each a dataset or `(x, y)`.

    Raises:
        InvalidArgument: none of these.
        InvalidData: a dataset that does not yield batches of `(x, y)`.
    """
    if isinstance(data, Data):
        return data
    if isinstance(data, tf.data.Dataset):
        return _from_datasets({"train": data})
    if _is_pair(data) and all(isinstance(part, tuple) and len(part) == 2 for part in data):
        return from_arrays({"train": data[0], "test": data[1]}, options)
    if _is_pair(data):
        return from_arrays({"train": data}, options)
    splits = {name: getattr(data, name) for name in SPLITS if getattr(data, name, None) is not None}
    if "train" in splits and all(isinstance(part, tf.data.Dataset) for part in splits.values()):
        return _from_datasets(splits)
    if "train" in splits and all(_is_pair(part) for part in splits.values()):
        return from_arrays(splits, options)
    raise InvalidArgument(
        "`data` must be a spec such as 'digits' or 'images:FOLDER', a "
        "tf.data.Dataset, a pair (x, y) of arrays, or an "
        f"object with .train, .validation and .test of one of these kinds, received {type(data).__name__}."
    )


def splits(*, train: Any, validation: Any = None, test: Any = None, ids: bool = True) -> Data:
    """The splits as they are given, each in a form that Keras's `fit` takes; nothing is cut from any of them.

    Args:
        train, validation, test: a batched `tf.data.Dataset`, `(x, y)` or `(x, y, sample_weight)` of arrays, or a Keras
            `PyDataset`; None for a split that there is not.
        ids: whether arrays of labels that name classes become class ids; else numbers stay what they are.

    Raises:
        InvalidArgument: a split of another kind, or one that never ends.
        InvalidData: no batches of `(x, y)`, arrays that do not fit together, or a dataset without a batch.
    """
    given = {"train": train, "validation": validation, "test": test}
    given = {name: split for name, split in given.items() if split is not None}
    arrays = {name: split for name, split in given.items() if _are_arrays(split)}
    if len(arrays) == len(given):
        return from_arrays(arrays, LoadOptions(ids=ids), cut=False)
    datasets = {name: _counted(name, _as_dataset(name, split)) for name, split in given.items() if name not in arrays}
    if "train" in arrays:
        beside = from_arrays(arrays, LoadOptions(ids=ids), cut=False)
        datasets.update({name: getattr(beside, name) for name in arrays})
    else:
        labels = tf.nest.flatten(datasets["train"].element_spec[1])
        options = LoadOptions(ids=ids and len(labels) == 1 and labels[0].shape.rank == 1)
        for name, split in arrays.items():
            _refuse_text(name, split)
            datasets[name] = from_arrays({"train": split}, options, cut=False, shuffle=False).train
    return _from_datasets({name: datasets[name] for name in given})


def _are_arrays(split: Any) -> bool:
    return isinstance(split, tuple | list) and len(split) in (2, 3)


def _refuse_text(name: str, split: Any) -> None:
    if any(np.asarray(labels).dtype.kind in "USO" for labels in tf.nest.flatten(split[1])):
        raise InvalidData(
            f"The labels of `{name}` are names, but `train` is no array that says which number each of them has. Give "
            f"the numbers, or `{name}` as a dataset too."
        )


def _as_dataset(name: str, split: Any) -> tf.data.Dataset:
    if isinstance(split, tf.data.Dataset):
        _check_elements(name, split.element_spec)
        return split
    if isinstance(split, keras.utils.PyDataset):
        return from_sequence(split)
    raise InvalidArgument(
        f"`{name}` must be a batched tf.data.Dataset, arrays (x, y) or (x, y, sample_weight), or a keras PyDataset, "
        f"received {type(split).__name__}."
    )


def _counted(name: str, dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with its length, for which it is read once where it does not know it, as behind a filter."""
    count = int(dataset.cardinality())
    if count == tf.data.INFINITE_CARDINALITY:
        raise InvalidArgument(
            f"`{name}` never ends (it is repeated). Leave `.repeat()` out, or end it with `.take(batches)`; `epochs` "
            "says how often it is read."
        )
    if count == tf.data.UNKNOWN_CARDINALITY and name == "train":
        count = int(dataset.reduce(np.int64(0), lambda total, *_: total + 1))
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    if count == 0:
        raise InvalidData(f"`{name}` is empty: it has no batch.")
    return dataset


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _from_datasets(splits: dict[str, tf.data.Dataset]) -> Data:
    for name, dataset in splits.items():
        _check_elements(name, dataset.element_spec)
    inputs = splits["train"].element_spec[0]
    spec = DataSpec(
        input_shape=nested(inputs, _shape),
        dtype=nested(inputs, lambda tensor: tensor.dtype.name),
        samples={name: None for name in splits},
    )
    return Data(splits["train"], splits.get("validation"), splits.get("test"), spec)


def _check_elements(name: str, element: Any) -> None:
    if not isinstance(element, tuple) or len(element) not in (2, 3):
        raise InvalidData(
            f"The {name} dataset must yield pairs (x, y), or (x, y, sample_weight), received elements {element}. "
            f"{_pairing(element)}"
        )
    if any(tensor.shape.rank == 0 for tensor in tf.nest.flatten(element[:2])):
        raise InvalidData(
            f"The {name} dataset must yield batches, received single samples {element}. Call .batch(32) on it."
        )


def _pairing(element: Any) -> str:
    """How such elements become pairs."""
    if isinstance(element, dict) and len(element) > 1:
        *inputs, label = element
        x = f"d[{inputs[0]!r}]" if len(inputs) == 1 else f"{{{', '.join(f'{name!r}: d[{name!r}]' for name in inputs)}}}"
        return f"Map it to such pairs, for example with .map(lambda d: ({x}, d[{label!r}]))."
    return "Map it to such pairs: .map(lambda x: (x, x)) for a model that reproduces its inputs."


def _shape(tensor: tf.TensorSpec) -> tuple | None:
    return None if tensor.shape.rank is None else tuple(tensor.shape[1:])
