"""Arrays as data: checked, labels as class ids, missing splits cut, batches gathered from memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfbig.data.batching import SPLITS, allot, batches
from tfbig.data.dataset import Data, DataSpec, LoadOptions
from tfbig.data.labels import class_ids
from tfbig.errors import InvalidArgument, InvalidData

Pair = tuple[Any, Any]  # samples and their labels


def from_arrays(
    pairs: Mapping[str, Pair],
    options: LoadOptions,
    *,
    scale: float = 1.0,
    class_names: tuple[str, ...] | None = None,
) -> Data:
    """Builds `Data` from arrays `x` of shape `(samples, ...)` and `y` of shape `(samples,)`.

    Inputs that are bytes, booleans or floats become float32 in the batch; other integers and strings stay
    what they are. A validation split that is missing is cut from train, and so is a test split, stratified by
    label.

    Args:
        pairs: `(x, y)` of each split, "train" at least.
        scale: factor for the inputs, e.g. 1/255.
        class_names: name of each class id; labels that are strings bring their own.

    Raises:
        InvalidData: empty, of different lengths, not finite, not numbers, or labels that are not class ids.
    """
    inputs = {name: _checked_inputs(name, x) for name, (x, _) in pairs.items()}
    labels, own_names = class_ids({name: np.asarray(y) for name, (_, y) in pairs.items()})
    for name, x in inputs.items():
        if len(x) != len(labels[name]):
            raise InvalidData(
                f"x and y of the {name} split must have one length: x has {len(x)} samples, y has "
                f"{len(labels[name])}. Give one label for each sample."
            )
        if x.shape[1:] != inputs["train"].shape[1:]:
            raise InvalidData(
                f"All splits must have samples of one shape: train has {inputs['train'].shape[1:]}, "
                f"{name} has {x.shape[1:]}."
            )
    names = class_names or own_names
    classes = len(names) if names else 1 + max(int(y.max()) for y in labels.values())
    return _assemble(inputs, labels, options, scale=scale, classes=classes, class_names=names)


def _assemble(
    inputs: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    options: LoadOptions,
    *,
    scale: float,
    classes: int,
    class_names: tuple[str, ...] | None,
) -> Data:
    parts = allot(labels, options)
    tensors = {name: (tf.constant(inputs[name]), tf.constant(labels[name])) for name in inputs}
    datasets = {
        name: batches(
            indices,
            _Reader(*tensors[origin], scale=scale, size=options.size),
            batch_size=options.batch_size,
            seed=options.seed if name == "train" else None,
        )
        for name, (origin, indices) in parts.items()
    }
    spec = datasets["train"].element_spec[0]
    return Data(
        **{name: datasets[name] for name in SPLITS},
        spec=DataSpec(
            input_shape=tuple(spec.shape[1:]),
            dtype=spec.dtype.name,
            classes=classes,
            class_names=class_names,
            samples={name: len(parts[name][1]) for name in SPLITS},
        ),
    )


class _Reader:
    """Gathers a batch by index: bytes and floats as float32, images resized if asked."""

    def __init__(self, x: tf.Tensor, y: tf.Tensor, *, scale: float, size: tuple[int, int] | None):
        if size and len(x.shape) != 4:
            raise InvalidArgument(
                f"`image_size` is for images of shape (height, width, channels), received samples of shape "
                f"{tuple(x.shape[1:])}. Leave it out."
            )
        self.x, self.y, self.scale, self.size = x, y, scale, size

    def __call__(self, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.gather(self.x, indices)
        if x.dtype.is_floating or x.dtype in (tf.uint8, tf.bool):
            x = tf.cast(x, tf.float32) * self.scale
        if self.size:
            x = tf.image.resize(x, self.size)
        return x, tf.gather(self.y, indices)


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
