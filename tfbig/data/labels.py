"""Labels of every kind as integer class ids."""

from __future__ import annotations

import numpy as np

from tfbig.errors import InvalidData


def are_classes(y: np.ndarray) -> bool:
    """Whether labels name one class for each sample: whole numbers, one-hot rows or strings; else they are values."""
    if y.dtype.kind in "USO":
        return True
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    return _are_one_hot(y) or (y.ndim == 1 and _are_whole(y))


def class_ids(labels: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    """Turns the labels of each split into int64 class ids `(samples,)`.

    Whole numbers of any type stay what they are, `(samples, 1)` loses its axis, one-hot rows become the
    position of their one, and strings are numbered in alphabetical order (strings of digits keep their
    number).

    Returns:
        The ids of each split, and the names of the classes if the labels were names.

    Raises:
        InvalidData: labels that are negative, not whole, not finite, not one per sample, or unknown to train.
    """
    labels = {name: _one_per_sample(name, y) for name, y in labels.items()}
    names = None
    if any(y.dtype.kind in "USO" for y in labels.values()):
        labels, names = _numbered(labels)
    ids = {name: _whole(name, y) for name, y in labels.items()}
    _check_known(ids)
    return ids, names


def _one_per_sample(name: str, y: np.ndarray) -> np.ndarray:
    if y.ndim == 2 and y.shape[1] == 1:
        return y[:, 0]
    if _are_one_hot(y):
        return y.argmax(axis=1)
    if y.ndim != 1:
        raise InvalidData(
            f"The labels of the {name} split must be one class id per sample or "
            "one-hot rows, received an array of "
            f"shape {y.shape}. For other targets give a tf.data.Dataset of your own."
        )
    return y


def _are_one_hot(y: np.ndarray) -> bool:
    numbers = y.ndim == 2 and y.dtype.kind in "fiub"
    return numbers and bool(np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all())


def _are_whole(y: np.ndarray) -> bool:
    return y.dtype.kind in "iub" or (y.dtype.kind == "f" and bool((np.isfinite(y) & (y == np.floor(y))).all()))


def _numbered(labels: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], tuple[str, ...] | None]:
    texts = {name: np.array([_text(label) for label in y], dtype=str) for name, y in labels.items()}
    if all(label.isdecimal() for y in texts.values() for label in y):
        return {name: y.astype(np.int64) for name, y in texts.items()}, None
    known = np.unique(texts["train"])
    for name, y in texts.items():
        if strange := sorted(set(y) - set(known)):
            raise InvalidData(f"The {name} split has labels that train has not: {', '.join(strange[:5])}.")
    return {name: np.searchsorted(known, y) for name, y in texts.items()}, tuple(known.tolist())


def _text(label: object) -> str:
    return label.decode() if isinstance(label, bytes) else str(label)


def _whole(name: str, y: np.ndarray) -> np.ndarray:
    if y.dtype.kind not in "fiub":
        raise InvalidData(f"The labels of the {name} split must be class ids, received an array of type {y.dtype}.")
    if not _are_whole(y):
        example = y[~(np.isfinite(y) & (y == np.floor(y)))][0]
        raise InvalidData(
            f"The labels of the {name} split must be whole numbers, received "
            f"{example:g}. Number the classes from 0; "
            "for regression give a tf.data.Dataset of your own."
        )
    if len(y) and y.min() < 0:
        raise InvalidData(f"Labels out of range: the {name} split has label {int(y.min())}. Number the classes from 0.")
    return y.astype(np.int64)


def _check_known(ids: dict[str, np.ndarray]) -> None:
    highest = max(ids["train"], default=0)
    for name, y in ids.items():
        if len(y) and y.max() > highest:
            raise InvalidData(
                f"Labels out of range: the {name} split has label {int(y.max())}, train has labels 0 to {highest}."
            )
