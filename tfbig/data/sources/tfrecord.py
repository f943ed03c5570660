"""`tfrecord:PATTERN`: files of `tf.train.Example`, each an image or a vector of numbers, and a label."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from tfbig.data.batching import allot, shuffled, untuned
from tfbig.data.dataset import Data, DataSpec, LoadOptions
from tfbig.data.image_files import CHANNELS, decode, default_size, plain_reason, resize
from tfbig.data.labels import class_ids
from tfbig.errors import InvalidData, InvalidFile

ARGUMENT = "PATTERN"
SUFFIXES = (".tfrecord", ".tfrecords")
LABELS = ("label", "target", "class", "image/class/label")
INPUTS = ("image", "image_raw", "image/encoded", "x", "features", "input")
SPLIT_NAME = re.compile(r"(?<![a-z])(test|val|valid|validation)(?![a-z])")
_FRAME = 16  # bytes around a record: its length and two checksums
SHUFFLE_BUFFER = 10_000  # records; files are read in sequence, so that more would mean all of them in memory


def recognises(path: str) -> bool:
    return path.endswith(SUFFIXES) or any(f"{suffix}-" in path for suffix in SUFFIXES)


def load(argument: str, options: LoadOptions) -> Data:
    """Streams records; which feature is what is inferred from the first record.

    The label is an int64 feature named `label`, `target`, `class` or `image/class/label`. The input is the
    only other feature, or the one named `image`, `image_raw`, `image/encoded`, `x`, `features` or `input`:
    bytes are an encoded image and become float32 `(image_size, image_size, 3)` in [0, 255], numbers become a
    vector of their length. Files with the word test, val, valid or validation in their names are these
    splits, all others are train; what is missing is cut from train.

    Raises:
        InvalidFile: no file matches, or a file is damaged.
        InvalidData: no label, no input, or more inputs than one.
    """
    files = _files_of_splits(argument)
    form = _infer(argument, files["train"][0], options)
    labels, _ = class_ids({split: _labels(paths, form) for split, paths in files.items()})
    parts = allot(labels, options)
    datasets = {
        split: _stream(files[origin], len(labels[origin]), indices, form, options, shuffle=split == "train")
        for split, (origin, indices) in parts.items()
    }
    classes = 1 + int(labels["train"].max())
    samples: dict[str, int | None] = {split: len(indices) for split, (_, indices) in parts.items()}
    return Data(**datasets, spec=DataSpec(form.shape, form.dtype.name, classes, None, samples))


@dataclasses.dataclass(frozen=True)
class _Form:
    """Which features of a record are the input and the label, and how to read them."""

    input: str
    label: str
    shape: tuple[int, ...]
    dtype: tf.DType
    is_image: bool
    compression: str

    def records(self, files: list[str]) -> tf.data.Dataset:
        return tf.data.TFRecordDataset(files, compression_type=self.compression)

    def labels(self, records: tf.Tensor) -> tf.Tensor:
        return tf.io.parse_example(records, {self.label: tf.io.FixedLenFeature((), tf.int64)})[self.label]

    def sample(self, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        kind = tf.io.FixedLenFeature((), tf.string) if self.is_image else tf.io.FixedLenFeature(self.shape, self.dtype)
        x = tf.io.parse_single_example(record, {self.input: kind})[self.input]
        if self.is_image:
            x = resize(decode(x), (self.shape[0], self.shape[1]))
        return x, self.labels(record[None])[0]


def _files_of_splits(pattern: str) -> dict[str, list[str]]:
    """Returns the files of each split; all are "train" unless the names say otherwise."""
    files = sorted(glob.glob(pattern))
    if not files:
        raise InvalidFile(f"No file matches `{pattern}`. Check the pattern; it is relative to `{Path.cwd()}`.")
    splits: dict[str, list[str]] = {}
    for file in files:
        named = SPLIT_NAME.search(Path(file).name.lower())
        split = "train" if not named else "test" if named[0] == "test" else "validation"
        splits.setdefault(split, []).append(file)
    if "train" not in splits:
        raise InvalidData(f"`{pattern}` matches no training files, only {', '.join(files[:3])}.")
    return splits


def _infer(pattern: str, file: str, options: LoadOptions) -> _Form:
    """Reads the first record to see which features there are."""
    with open(file, "rb") as opened:
        compression = "GZIP" if opened.read(3) == b"\x1f\x8b\x08" else ""
    try:
        first = next(iter(tf.data.TFRecordDataset(file, compression_type=compression).take(1)), None)
        example = tf.train.Example.FromString(first.numpy() if first is not None else b"")
    except (tf.errors.OpError, DecodeError) as error:
        raise _damaged(file, error) from error
    features = dict(example.features.feature)
    label = next((name for name in LABELS if name in features), None)
    if label is None or len(features[label].int64_list.value) != 1:
        raise InvalidData(
            f"The records of `{file}` must have one int64 label named {', '.join(LABELS)}; "
            f"received features {', '.join(features) or 'none'}."
        )
    others = [name for name in features if name != label]
    chosen = others if len(others) == 1 else [name for name in INPUTS if name in others]
    if len(chosen) != 1:
        raise InvalidData(
            f"The records of `{file}` must have one input besides '{label}', or "
            f"one named {', '.join(INPUTS)}; "
            f"received features {', '.join(others) or 'none'}."
        )
    return _form_of(pattern, chosen[0], label, features[chosen[0]], compression, options)


def _form_of(pattern: str, name: str, label: str, feature: Any, compression: str, options: LoadOptions) -> _Form:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        size = options.size or default_size(pattern)
        return _Form(name, label, (*size, CHANNELS), tf.float32, True, compression)
    values = feature.float_list.value if kind == "float_list" else feature.int64_list.value
    dtype = tf.float32 if kind == "float_list" else tf.int64
    return _Form(name, label, (len(values),), dtype, False, compression)


def _labels(files: list[str], form: _Form) -> np.ndarray:
    """Reads all labels, and with them every record once: a damaged file is found here."""
    parts = []
    for file in files:
        size = 0
        try:
            for records in form.records([file]).batch(4096):
                parts.append(form.labels(records).numpy())
                size += int(tf.reduce_sum(tf.strings.length(records) + _FRAME))
        except tf.errors.OpError as error:
            raise _damaged(file, error) from error
        # TensorFlow takes a file that ends within the first bytes of a record for one that ends before it.
        if not form.compression and size != os.path.getsize(file):
            raise InvalidFile(
                f"`{file}` is cut off: {os.path.getsize(file) - size} bytes are left behind its last whole "
                "record. Write it anew."
            )
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _damaged(file: str, error: Exception) -> InvalidFile:
    return InvalidFile(
        f"`{file}` is damaged or holds other records than tf.train.Example: {plain_reason(error)}. Write it anew."
    )


def _stream(
    files: list[str], total: int, indices: np.ndarray, form: _Form, options: LoadOptions, *, shuffle: bool
) -> tf.data.Dataset:
    records = form.records(files)
    if len(indices) < total:
        mask = tf.constant(np.isin(np.arange(total), indices))
        records = records.enumerate().filter(lambda i, _: mask[i]).map(lambda _, record: record)
    if shuffle:
        records = shuffled(records, buffer=min(len(indices), SHUFFLE_BUFFER), seed=options.seed)
    samples = records.map(form.sample, num_parallel_calls=tf.data.AUTOTUNE)
    counted = samples.apply(tf.data.experimental.assert_cardinality(len(indices)))
    return untuned(counted.batch(options.batch_size).prefetch(tf.data.AUTOTUNE))
