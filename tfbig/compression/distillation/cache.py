"""What the teacher says, computed once for each sample and kept in memory or on disk.

A sample is known by a fingerprint of its content, so that shuffling, batching and resuming make no
difference. A sample that was never seen (augmentation makes new ones) is answered by the teacher itself.
"""

from __future__ import annotations

import json
import math
import os
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import tree

from tfbig.compression.distillation.taps import Shape
from tfbig.compression.distillation.teacher import Knowledge, Teacher, compatible, input_shapes, shapes_text
from tfbig.errors import InvalidData, InvalidFile
from tfbig.files import atomic_file


class Taught(NamedTuple):
    """The targets in a data set that carries the teacher's answers."""

    labels: Any
    knowledge: Knowledge


def with_knowledge(
    dataset: tf.data.Dataset, teacher: Teacher, path: str | os.PathLike | None = None, *, warn: bool = True
) -> tf.data.Dataset:
    """Returns `dataset` with `Taught(labels, knowledge)` for its labels; the teacher runs once for each sample.

    Args:
        dataset: batches of `x`, `(x, y)` or `(x, y, sample_weight)`.
        path: a folder that keeps the answers over processes; in memory without it. One process writes at a time.
        warn: of samples that are new in every epoch, for which there is nothing to keep.

    Raises:
        InvalidData: not batches of what the teacher takes, or its answers have no fixed size.
        InvalidFile: `path` holds the answers of another teacher, or something else.
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise InvalidData(
            f"`dataset` must be a tf.data.Dataset of batches, received {type(dataset).__name__}. Make one "
            "with tf.data.Dataset.from_tensor_slices((x, y)).batch(32)."
        )
    spec = dataset.element_spec
    inputs = spec[0] if isinstance(spec, tuple) else spec
    _check_inputs(inputs, teacher)
    shapes = teacher.shapes()
    size = numbers_per_sample(shapes)
    answers = Answers(size) if path is None else AnswersOnDisk(size, Path(path), teacher.digest())
    answering = _Answering(teacher, inputs, answers, int(dataset.cardinality()), warn)

    def add(x: Any, y: Any = None, *weight: Any) -> tuple:
        rows = answering.rows(x)
        return (x, Taught(y, _unpacked(rows, shapes)), *weight)

    # A fixed order of calls keeps one teacher from running twice at the same time.
    return dataset.map(add, num_parallel_calls=None).prefetch(tf.data.AUTOTUNE)


def split(y: Any) -> tuple[Any, Knowledge | None]:
    """The labels, and the teacher's answers if the data set carries them."""
    return (y.labels, y.knowledge) if isinstance(y, Taught) else (y, None)


class Answers:
    """Rows of numbers by key, in memory."""

    def __init__(self, size: int):
        self.size = size
        self.index: dict[int, int] = {}
        self.table = np.empty((0, size), np.float32)

    def __len__(self) -> int:
        return len(self.index)

    def find(self, keys: np.ndarray) -> np.ndarray | None:
        """The rows `(len(keys), size)`, or None unless all keys are known."""
        places = [self.index.get(key, -1) for key in keys.tolist()]
        return None if -1 in places else self.table[places]

    def add(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Keeps the rows of those keys that are new."""
        fresh = {key: place for place, key in enumerate(keys.tolist()) if key not in self.index}
        places = list(fresh.values())
        self.append(keys[places], rows[places])
        self.index.update(zip(fresh, range(len(self), len(self) + len(fresh)), strict=True))

    def append(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """Stores rows behind those that are there."""
        used = len(self)
        if used + len(rows) > len(self.table):
            larger = np.empty((max(1024, 2 * (used + len(rows))), self.size), np.float32)
            larger[:used] = self.table[:used]
            self.table = larger
        self.table[used : used + len(rows)] = rows


class AnswersOnDisk(Answers):
    """Rows of numbers by key, in a folder; a process that was killed loses at most its last row."""

    def __init__(self, size: int, folder: Path, digest: str):
        super().__init__(size)
        self.keys_file, self.rows_file = folder / "keys.bin", folder / "rows.bin"
        _claim(folder, {"format": 1, "teacher": digest, "numbers_per_sample": size})
        for file in (self.keys_file, self.rows_file):
            file.touch()
        count = min(self.keys_file.stat().st_size // 8, self.rows_file.stat().st_size // (4 * size))
        self._cut(count)
        self.index = {key: i for i, key in enumerate(np.fromfile(self.keys_file, np.int64).tolist())}
        self._map()

    def append(self, keys: np.ndarray, rows: np.ndarray) -> None:
        try:
            for file, values in ((self.rows_file, rows.astype(np.float32)), (self.keys_file, keys)):
                with open(file, "ab") as stream:
                    stream.write(values.tobytes())
        except OSError:
            self._cut(len(self))
            raise
        self._map()

    def _cut(self, count: int) -> None:
        """Leaves the first `count` answers in the files, and nothing half-written behind them."""
        os.truncate(self.keys_file, 8 * count)
        os.truncate(self.rows_file, 4 * self.size * count)

    def _map(self) -> None:
        if self.rows_file.stat().st_size:
            self.table = np.memmap(self.rows_file, np.float32, "r").reshape(-1, self.size)


class _Answering:
    """Looks rows up inside a `tf.data` pipeline, and asks the teacher for those that are missing."""

    def __init__(self, teacher: Teacher, inputs: Any, answers: Answers, batches: int, warn: bool):
        self.answers, self.batches, self.largest_batch = answers, batches, 0
        self.ask = tf.function(teacher, reduce_retracing=True, autograph=False)
        self.ask.get_concrete_function(tree.map_structure(_with_free_batch, inputs))  # Its errors come now.
        self.lock = threading.Lock()
        self.warn = warn

    def rows(self, x: Any) -> tf.Tensor:
        keys = fingerprints(x)
        known, rows = tf.numpy_function(self.look_up, [keys], [tf.bool, tf.float32])
        known.set_shape(())

        def taught() -> tf.Tensor:
            def teach(keys: np.ndarray, *tensors: np.ndarray) -> np.ndarray:
                return self.teach(keys, tree.pack_sequence_as(x, tensors))

            return tf.numpy_function(teach, [keys, *tree.flatten(x)], tf.float32)

        rows = tf.cond(known, lambda: rows, taught)
        rows.set_shape((None, self.answers.size))
        return rows

    def look_up(self, keys: np.ndarray) -> tuple[np.bool_, np.ndarray]:
        with self.lock:
            rows = self.answers.find(keys)
        return np.bool_(rows is not None), np.empty((0, 0), np.float32) if rows is None else np.asarray(rows)

    def teach(self, keys: np.ndarray, x: Any) -> np.ndarray:
        count = self.largest_batch = max(self.largest_batch, len(keys))
        # Kernels round otherwise for batches of another size: the last one of an epoch is filled up.
        full = tree.map_structure(lambda tensor: tf.gather(tensor, np.arange(count) % len(keys)), x)
        leaves = _leaves(self.ask(full))
        rows = np.concatenate([np.reshape(leaf, (count, -1)) for leaf in leaves], axis=1)
        rows = rows[: len(keys)].astype(np.float32)
        with self.lock:
            # Without a known length (below 0) the data set may go on for ever, and nothing is known to be enough.
            if self.batches < 0 or len(self.answers) < self.batches * self.largest_batch:
                self._keep(keys, rows)
            elif self.warn:
                self.warn = False
                warnings.warn(
                    "The data set yields samples that the teacher cache has not seen in a whole epoch, so "
                    "the teacher runs for them each time. Put random augmentation behind Distill.cache, or "
                    "leave the cache out.",
                    stacklevel=2,
                )
        return rows

    def _keep(self, keys: np.ndarray, rows: np.ndarray) -> None:
        """A disk that is full does not end a training that needs no cache: the teacher goes on answering."""
        try:
            self.answers.add(keys, rows)
        except OSError as error:
            self.batches = 0  # There is room for none.
            if self.warn:
                self.warn = False
                warnings.warn(
                    f"The teacher cache cannot grow, so the teacher runs for what is not in it: {error}.", stacklevel=2
                )


def fingerprints(x: Any) -> tf.Tensor:
    """A 64-bit key `(batch,)` for the content of each sample."""
    prints = [tf.fingerprint(tensor if tensor.shape.rank > 1 else tensor[:, None]) for tensor in tree.flatten(x)]
    together = prints[0] if len(prints) == 1 else tf.fingerprint(tf.concat(prints, axis=1))
    return tf.bitcast(together, tf.int64)


def _check_inputs(inputs: Any, teacher: Teacher) -> None:
    ours = [tuple(spec.shape) for spec in tree.flatten(inputs)]
    for model in teacher.models:
        theirs = input_shapes(model)
        if theirs and not compatible(theirs, ours):
            raise InvalidData(
                f"`dataset` gives inputs of shape {shapes_text(ours)}, the teacher '{model.name}' takes "
                f"{shapes_text(theirs)}. Batch the data set, and give the teacher what it was trained on."
            )


def _with_free_batch(spec: tf.TensorSpec) -> tf.TensorSpec:
    return tf.TensorSpec((None, *spec.shape[1:]), spec.dtype)


def _claim(folder: Path, about: dict[str, Any]) -> None:
    """Makes the folder this cache's own, or finds it so."""
    header = folder / "cache.json"
    if not header.exists():
        if folder.exists() and any(folder.iterdir()):
            raise InvalidFile(f"`path` '{folder}' holds something else than a teacher cache. Choose an empty folder.")
        with atomic_file(header) as partial:
            partial.write_text(json.dumps(about))
    if json.loads(header.read_text()) != about:
        raise InvalidFile(
            f"`path` '{folder}' holds the answers of another teacher, or other layers of it. Choose another "
            "folder, or delete this one."
        )


def numbers_per_sample(shapes: dict[str, Any]) -> int:
    """How many numbers a teacher of these `shapes()` says about a sample.

    Raises:
        InvalidData: the sizes are not fixed.
    """
    return sum(_row_size(shape) for shape in _leaves(shapes))


def _row_size(shape: Shape) -> int:
    if None in shape[1:]:
        raise InvalidData(
            f"`cache` needs a teacher whose answers have a fixed size for each sample, received {shape}. "
            "Pad the inputs to one length, or train without the cache."
        )
    return math.prod(d for d in shape[1:] if d)


def _leaves(structure: Any) -> list[Any]:
    """The tensors (or shapes) of a `Knowledge`, in one order."""
    features = structure["features"]
    return [
        *(one for answers in structure["outputs"] for one in answers),
        *(features[n] for n in sorted(features)),
    ]


def _unpacked(rows: tf.Tensor, shapes: dict[str, Any]) -> Knowledge:
    parts = iter(tf.split(rows, [_row_size(shape) for shape in _leaves(shapes)], axis=1))

    def part(shape: Shape) -> tf.Tensor:
        return tf.reshape(next(parts), (-1, *shape[1:]))

    # Tuples: tf.data takes a list for one tensor.
    outputs = tuple(tuple(part(shape) for shape in answers) for answers in shapes["outputs"])
    return {
        "outputs": outputs,
        "features": {n: part(shapes["features"][n]) for n in sorted(shapes["features"])},
    }
