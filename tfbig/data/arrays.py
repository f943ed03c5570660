"""Arrays as data: checked, classes as ids, missing splits cut, batches gathered from memory."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfbig.data.batching import SPLITS, allot, batches
from tfbig.data.dataset import Data, DataSpec, LoadOptions, nested
from tfbig.data.labels import are_classes, class_ids
from tfbig.errors import InvalidArgument, InvalidData

Split = tuple  # samples, their labels, and perhaps their weights


def from_arrays(
    pairs: Mapping[str, Split],
    options: LoadOptions,
    *,
    scale: float = 1.0,
    class_names: tuple[str, ...] | None = None,
    cut: bool = True,
    shuffle: bool = True,
) -> Data:
    """Builds `Data` from arrays `x` of shape `(samples, ...)` and `y` of shape `(samples, ...)`, or nests of them.

    Inputs that are bytes, booleans or floats become float32 in the batch; other integers and strings stay what they
    are. Labels become class ids where they name one class for each sample (numbers only if `options.ids`); else they
    are values (of a regression, of every pixel, of several outputs), floats as float32. A validation split that is
    missing is cut from train, and so is a test split, stratified by class.

    Args:
        pairs: `(x, y)` or `(x, y, sample_weight)` of each split, "train" at least; several inputs or outputs are a list
            or a dictionary.
        scale: factor for the inputs, e.g. 1/255.
        class_names: name of each class id; labels that are strings bring their own.
        cut: whether splits that are missing are cut from train.
        shuffle: whether train is, anew in each epoch.

    Raises:
        InvalidData: empty, of different lengths, not finite, not numbers, or class ids that are out of range.
    """
    inputs = {name: nested(pair[0], functools.partial(_checked_inputs, name)) for name, pair in pairs.items()}
    weighted = {name: pair[2] for name, pair in pairs.items() if len(pair) > 2}
    weights = {name: nested(w, functools.partial(_checked_values, name)) for name, w in weighted.items()}
    given = {name: nested(pair[1], np.asarray) for name, pair in pairs.items()}
    labels, strata, own_names = _labels(given, options.ids)
    class_names = class_names or own_names
    classes = None
    if strata is labels:
        classes = len(class_names) if class_names else 1 + max(int(y.max()) for y in labels.values())
    for name, x in inputs.items():
        _check_lengths(name, tf.nest.flatten(x), tf.nest.flatten([labels[name], weights.get(name, [])]))
        shapes, first = nested(x, _sample_shape), nested(inputs["train"], _sample_shape)
        if shapes != first:
            raise InvalidData(f"All splits must have samples of one shape: train has {first}, {name} has {shapes}.")
    parts = allot(strata, options, cut=cut)
    targets = {name: (y, weights[name]) if name in weights else (y,) for name, y in labels.items()}
    datasets, samples = _datasets(inputs, targets, parts, options, scale, shuffle)
    spec = datasets["train"].element_spec[0]
    return Data(
        **{**dict.fromkeys(SPLITS), **datasets},  # type: ignore[arg-type]
        spec=DataSpec(
            input_shape=nested(spec, lambda tensor: tuple(tensor.shape[1:])),
            dtype=nested(spec, lambda tensor: tensor.dtype.name),
            classes=classes,
            class_names=class_names,
            samples=samples,
        ),
    )


def _labels(given: dict[str, Any], ids: bool) -> tuple[dict[str, Any], dict[str, np.ndarray], tuple[str, ...] | None]:
    """The labels of each split, the classes that splits are cut by (the labels, if they are such), and their names."""
    classes = all(isinstance(y, np.ndarray) and are_classes(y) for y in given.values())
    if classes and (ids or any(y.dtype.kind in "USO" for y in given.values())):
        numbers, names = class_ids(given)
        return numbers, numbers, names
    values = {name: nested(y, functools.partial(_checked_values, name)) for name, y in given.items()}
    if classes:
        with contextlib.suppress(InvalidData):  # The same samples are cut, whether as ids or as they are.
            return values, class_ids(given)[0], None
    return values, {name: np.zeros(len(tf.nest.flatten(y)[0]), np.int64) for name, y in values.items()}, None


def _datasets(
    inputs: dict[str, Any],
    targets: dict[str, tuple],
    parts: dict[str, tuple[str, np.ndarray]],
    options: LoadOptions,
    scale: float,
    shuffle: bool,
) -> tuple[dict[str, tf.data.Dataset], dict[str, int | None]]:
    """The batches of each split, and how many samples it has."""
    readers = {
        name: _Reader(
            nested(x, tf.constant),
            tuple(nested(part, tf.constant) for part in targets[name]),
            scale=scale,
            size=options.size,
        )
        for name, x in inputs.items()
    }
    datasets = {
        name: batches(
            indices,
            readers[origin],
            batch_size=options.batch_size,
            seed=options.seed if shuffle and name == "train" else None,
        )
        for name, (origin, indices) in parts.items()
    }
    return datasets, {name: len(indices) for name, (_, indices) in parts.items()}


class _Reader:
    """Gathers a batch by index: bytes and floats as float32, images resized if asked."""

    def __init__(self, x: Any, targets: tuple, *, scale: float, size: tuple[int, int] | None):
        for tensor in tf.nest.flatten(x):
            if size and len(tensor.shape) != 4:
                raise InvalidArgument(
                    f"`image_size` is for images of shape (height, width, channels), received samples of shape "
                    f"{tuple(tensor.shape[1:])}. Leave it out."
                )
        self.x, self.targets, self.scale, self.size = x, targets, scale, size

    def __call__(self, indices: tf.Tensor) -> tuple:
        x = tf.nest.map_structure(lambda tensor: self.read(tf.gather(tensor, indices)), self.x)
        targets = [tf.nest.map_structure(lambda tensor: tf.gather(tensor, indices), part) for part in self.targets]
        return (x, *targets)

    def read(self, x: tf.Tensor) -> tf.Tensor:
        if x.dtype.is_floating or x.dtype in (tf.uint8, tf.bool):
            x = tf.cast(x, tf.float32) * self.scale
        return tf.image.resize(x, self.size) if self.size else x


def _check_lengths(name: str, x: list[np.ndarray], y: list[np.ndarray]) -> None:
    lengths = {"x": [len(array) for array in x], "y": [len(array) for array in y]}
    if len({*lengths["x"], *lengths["y"]}) > 1:
        have = " and ".join(dict.fromkeys(map(str, lengths["x"])))
        raise InvalidData(
            f"x and y of the {name} split must have one length: x has {have} samples, y has "
            f"{' and '.join(dict.fromkeys(map(str, lengths['y'])))}. Give one label for each sample."
        )


def _sample_shape(x: np.ndarray) -> tuple[int, ...]:
    return x.shape[1:]


def _checked_values(name: str, y: np.ndarray) -> np.ndarray:
    """Labels that are no class ids."""
    if y.ndim == 0 or y.dtype.kind not in "fiub":
        raise InvalidData(
            f"The labels of the {name} split must be class ids or values, one or more for each sample, received an "
            f"array of shape {y.shape} and type {y.dtype}."
        )
    if y.dtype.kind != "f":
        return y
    if not np.isfinite(y).all():
        bad = int(np.argmax(~np.isfinite(y).reshape(len(y), -1).all(axis=1)))
        raise InvalidData(
            f"The labels of the {name} split must be finite, received NaN or infinity, first in sample {bad}. Remove "
            "or fill such samples."
        )
    return y.astype(np.float32)


def _checked_inputs(name: str, x: Any) -> np.ndarray:
    x = np.asarray(x)
    if x.ndim == 0 or len(x) == 0:
        raise InvalidData(f"The {name} split is empty: expected samples, received an array of shape {x.shape}.")
    if x.dtype.kind in "US" or (x.dtype.kind == "O" and all(isinstance(value, str | bytes) for value in x.flat)):
        return x.astype(object)
    if x.dtype.kind not in "fiub":
        raise InvalidData(
            f"The samples of the {name} split must be numbers or strings, received an array of type {x.dtype}."
        )
    x = x.astype(np.float32, copy=False) if x.dtype.kind == "f" else x
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        bad = int(np.argmax(~np.isfinite(x).reshape(len(x), -1).all(axis=1)))
        raise InvalidData(
            f"The samples of the {name} split must be finite, received NaN or "
            f"infinity, first in sample {bad}. "
            "Remove or fill such samples."
        )
    return x
