"""The data that a model is measured on, as batches of arrays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tfbig.errors import InvalidData

_BATCH = 256
_EXPECTED = "a tfbig.data object, a batched tf.data.Dataset of (x, y), or a tuple (x, y) of arrays"


def batches(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yields `(x, y)` as NumPy arrays, in the structure that the data has (array, list or dictionary).

    Sample weights are left out: quality is that of each sample counted once.

    Args:
        data: what `tfbig.data.load` gives (its test split is used), a batched `tf.data.Dataset`, or a tuple
            `(x, y)`.

    Raises:
        InvalidData: nothing of these, empty, endless, or not in pairs.
    """
    if hasattr(data, "test") and hasattr(data, "train"):
        data = data.test
    source = _from_arrays(data) if isinstance(data, tuple) else _from_dataset(data)
    empty = True
    for batch in source:
        empty = False
        yield batch
    if empty:
        raise InvalidData("The data set is empty: expected at least one sample, received 0. Check where it came from.")


def leaves(structure: Any) -> list[np.ndarray]:
    """The arrays of a structure in Keras's order: a list as it is, a dictionary by its sorted keys."""
    if isinstance(structure, dict):
        return [leaf for key in sorted(structure) for leaf in leaves(structure[key])]
    if isinstance(structure, list | tuple):
        return [leaf for part in structure for leaf in leaves(part)]
    return [np.asarray(structure)]


def slice_structure(structure: Any, start: int, stop: int) -> Any:
    """The samples `start:stop` of every array in a structure."""
    if isinstance(structure, dict):
        return {key: slice_structure(value, start, stop) for key, value in structure.items()}
    if isinstance(structure, list | tuple):
        return [slice_structure(part, start, stop) for part in structure]
    return structure[start:stop]


def _from_arrays(data: tuple) -> Iterator[tuple[Any, Any]]:
    if len(data) not in (2, 3):
        raise InvalidData(f"`data` must be {_EXPECTED}, received a tuple of {len(data)}.")
    x, y = _to_numpy(data[0]), _to_numpy(data[1])
    sizes = {len(leaf) if leaf.ndim else 0 for leaf in leaves(x) + leaves(y)}
    if len(sizes) != 1:
        raise InvalidData(f"`data` must hold as many inputs as labels, received {sorted(sizes)}. Pair them up.")
    for start in range(0, sizes.pop(), _BATCH):
        yield slice_structure(x, start, start + _BATCH), slice_structure(y, start, start + _BATCH)


def _from_dataset(data: Any) -> Iterator[tuple[Any, Any]]:
    if not hasattr(data, "element_spec"):
        raise InvalidData(f"`data` must be {_EXPECTED}, received {type(data).__name__}.")
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise InvalidData(f"`data` must be {_EXPECTED}; its elements are not (x, y) pairs but {spec}.")
    if int(data.cardinality()) == -1:
        raise InvalidData("`data` repeats without end, expected a finite data set. Leave out repeat(), or take(n).")
    for element in data:
        x, y = _to_numpy(element[0]), _to_numpy(element[1])
        if any(leaf.ndim == 0 for leaf in leaves(x) + leaves(y)):
            raise InvalidData("`data` is not batched: expected (x, y) batches, received single samples. Add batch(32).")
        yield x, y


def _to_numpy(structure: Any) -> Any:
    if isinstance(structure, dict):
        return {key: _to_numpy(value) for key, value in structure.items()}
    if isinstance(structure, list | tuple) and any(hasattr(part, "shape") for part in structure):
        return [_to_numpy(part) for part in structure]
    return structure.numpy() if hasattr(structure, "numpy") else np.asarray(structure)
