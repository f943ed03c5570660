"""Data that the user already has: datasets, arrays, or an object with splits."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfbig.data.arrays import from_arrays
from tfbig.data.batching import SPLITS
from tfbig.data.dataset import Data, DataSpec, LoadOptions, nested
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
            f"The {name} dataset must yield pairs (x, y), or (x, y, "
            f"sample_weight), received elements {element}. "
            "Map it to such pairs."
        )
    if any(tensor.shape.rank == 0 for tensor in tf.nest.flatten(element[:2])):
        raise InvalidData(
            f"The {name} dataset must yield batches, received single samples {element}. Call .batch(32) on it."
        )


def _shape(tensor: tf.TensorSpec) -> tuple | None:
    return None if tensor.shape.rank is None else tuple(tensor.shape[1:])
