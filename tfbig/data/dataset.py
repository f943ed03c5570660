"""What a data set is: its splits and their specification, how it was asked for, and which model fits it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfbig.errors import InvalidArgument, InvalidData, check_count, check_range


@dataclasses.dataclass(frozen=True)
class DataSpec:
    """What one sample of a data set looks like.

    Attributes:
        input_shape: shape of one input without the batch axis; a nest of shapes for several inputs.
        dtype: type of the inputs, e.g. "float32" or "string"; a nest of types for several inputs.
        classes: number of classes, or None where it is not known.
        class_names: name of each class in the order of the ids, or None where classes have no names.
        samples: number of samples of each split; None where counting would mean reading everything.
        skipped: files left out because they could not be read (`corrupt="skip"`).
    """

    input_shape: Any
    dtype: Any
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    samples: dict[str, int | None] = dataclasses.field(default_factory=dict)
    skipped: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Data:
    """Three batched `tf.data.Dataset` of `(x, y)`; a split that the user did not give is None.

    `train` comes in a new order each epoch, and the sequence of orders is given by the seed alone. Sources
    that shuffle indices (all but tfrecord and tfds) reach the order of epoch k by drawing one batch from k
    iterators.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset | None
    test: tf.data.Dataset | None
    spec: DataSpec


@dataclasses.dataclass(frozen=True)
class LoadOptions:
    """The options of `tfbig.data.load`, which every source receives; checked when made."""

    image_size: int | tuple[int, int] | None = None
    batch_size: int = 32
    validation: float = 0.1
    seed: int = 0
    shard: tuple[int, int] | None = None
    corrupt: str = "error"
    ids: bool = True

    def __post_init__(self) -> None:
        check_count("batch_size", self.batch_size)
        check_count("seed", self.seed, low=0)
        check_range("validation", self.validation, 0.0, 0.5, closed="right")
        for side in self.size or ():
            check_count("image_size", side)
        if self.corrupt not in ("error", "skip"):
            raise InvalidArgument(f"`corrupt` must be 'error' or 'skip', received {self.corrupt!r}.")
        if self.shard is not None:
            _check_shard(self.shard)

    @property
    def size(self) -> tuple[int, int] | None:
        """`image_size` as `(height, width)`."""
        if not isinstance(self.image_size, tuple | list):
            return None if self.image_size is None else (self.image_size, self.image_size)
        if len(self.image_size) != 2:
            raise InvalidArgument(f"`image_size` must be one number or (height, width), received {self.image_size!r}.")
        return self.image_size[0], self.image_size[1]


def _check_shard(shard: tuple[int, int]) -> None:
    pair = isinstance(shard, tuple | list) and len(shard) == 2 and all(isinstance(n, int) for n in shard)
    if not pair or not 0 <= shard[0] < shard[1]:
        raise InvalidArgument(
            f"`shard` must be (index, count) with 0 <= index < count, e.g. (0, 4), received {shard!r}."
        )


def nested(structure: Any, function: Callable[[Any], Any]) -> Any:
    """What `function` makes of an array or a tensor, or of each one of a list, a tuple or a dictionary.

    A list of numbers is an array, a list of arrays is a tuple of them.
    """
    if isinstance(structure, dict):
        return {name: nested(part, function) for name, part in structure.items()}
    if isinstance(structure, tuple | list) and structure and all(_is_array(part) for part in structure):
        return tuple(nested(part, function) for part in structure)
    return function(structure)


def _is_array(part: Any) -> bool:
    return isinstance(part, dict | tf.TypeSpec) or (hasattr(part, "shape") and len(part.shape) > 0)


def check_fits(model: keras.Model, data: Data) -> None:
    """Checks that a model takes the inputs of `data` and has an output for each of its classes.

    Shapes that a model does not know (not built, subclassed) are not checked. Labels are compared with the
    number of output units where the model has one output `(batch, units)` of at least two units; for a
    dataset of the user's own, whose classes are not known, the labels of one batch are looked at.

    Raises:
        InvalidData: the shape, the number of inputs or the type differs, or a label is out of range.
    """
    expected, received = _known_shape(model, "input"), data.spec.input_shape
    if expected is not None and received is not None:
        for want, give in _pair_inputs(model, expected, received):
            _check_shape(model, want[1:], give)
        _check_type(model, data)
    output = _known_shape(model, "output")
    if _is_shape(output) and len(output) == 2 and (output[-1] or 0) > 1:
        _check_labels(model, output[-1], data)


def _known_shape(model: keras.Model, which: str) -> Any:
    try:
        return getattr(model, f"{which}_shape")
    except (AttributeError, ValueError):  # Keras's answers for "subclassed" and "not built yet"
        return None


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple) and all(side is None or isinstance(side, int) for side in value)


def _shapes(nest: Any) -> list[tuple]:
    if _is_shape(nest):
        return [nest]
    return [shape for part in (nest.values() if isinstance(nest, dict) else nest) for shape in _shapes(part)]


def _pair_inputs(model: keras.Model, expected: Any, received: Any) -> list[tuple[tuple, tuple]]:
    """Pairs the model's input shapes with the data's: by name where the data has names, else in order."""
    wanted, given = _shapes(expected), _shapes(received)
    if isinstance(received, dict):
        names = expected if isinstance(expected, dict) else [tensor.name for tensor in model.inputs]
        if missing := [name for name in names if name not in received]:
            raise InvalidData(
                f"Model '{model.name}' expects inputs named {', '.join(names)}; the data gives "
                f"{', '.join(received)}. Let the dataset yield {', '.join(missing)} too."
            )
        given = [received[name] for name in names]
    if len(wanted) != len(given):
        raise InvalidData(
            f"Model '{model.name}' expects {len(wanted)} inputs, the data gives {len(given)}. "
            "Let the dataset yield one tensor for each input, in the model's order or by name."
        )
    return list(zip(wanted, given, strict=True))


def _check_shape(model: keras.Model, want: tuple, give: tuple) -> None:
    if len(want) == len(give) and all(w is None or g in (None, w) for w, g in zip(want, give, strict=True)):
        return
    advice = "Load data of that shape, or build the model for this one."
    if len(want) == len(give) + 1 and want[-1] == 1:
        advice = "Add the last axis: x[..., None]."
    elif len(want) == len(give) == 3 and want[-1] == give[-1] and None not in want:
        advice = f"Load the data with image_size={want[0] if want[0] == want[1] else want[:2]}."
    raise InvalidData(
        f"The data does not fit model '{model.name}': it expects inputs of shape {want}, received {give}. {advice}"
    )


def _check_type(model: keras.Model, data: Data) -> None:
    takes = {getattr(tensor.dtype, "name", tensor.dtype) for tensor in model.inputs}
    if "string" in tf.nest.flatten(data.spec.dtype) and "string" not in takes:
        raise InvalidData(
            f"The data does not fit model '{model.name}': it expects numbers, "
            "received strings. Turn text into token "
            "ids with keras.layers.TextVectorization, in the dataset or as the first layer of the model."
        )


def _check_labels(model: keras.Model, units: int, data: Data) -> None:
    low, high = (0, data.spec.classes - 1) if data.spec.classes else _labels_of_one_batch(data)
    if low < 0 or high >= units:
        raise InvalidData(
            f"Labels out of range for model '{model.name}': its {units} output units "
            f"expect labels 0 to {units - 1}, "
            f"received {low} to {high}. Build the model with {high + 1} outputs, "
            "or number the classes from 0."
        )


def _labels_of_one_batch(data: Data) -> tuple[int, int]:
    """Smallest and largest class id of a first batch; `(0, 0)` where labels are not class ids."""
    # Not from `train` if it can be helped: drawing from it moves its shuffling on.
    dataset = next(part for part in (data.validation, data.test, data.train) if part is not None)
    labels = dataset.element_spec[1]
    if not isinstance(labels, tf.TensorSpec) or labels.shape.rank != 1 or not labels.dtype.is_integer:
        return 0, 0
    for batch in dataset.take(1):
        return int(tf.reduce_min(batch[1])), int(tf.reduce_max(batch[1]))
    return 0, 0
