"""`tfds:NAME`: a data set of the TensorFlow Datasets catalogue, when `tensorflow-datasets` is installed."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tfbig.data.batching import SPLITS, TEST_SHARE, shuffled, untuned
from tfbig.data.dataset import Data, DataSpec, LoadOptions
from tfbig.data.image_files import default_size
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile, MissingPackage, nearest

ARGUMENT = "NAME"
SHUFFLE_BUFFER = 10_000  # samples


def recognises(path: str) -> bool:
    return False


def load(argument: str, options: LoadOptions) -> Data:
    """Streams the supervised pairs `(x, y)` of a data set, downloading and preparing it if need be.

    Images become float32 in [0, 255], resized where their sizes differ or `image_size` asks for it; other
    inputs stay what they are. Splits that are missing are cut from the end of train, which TFDS has mixed
    when preparing it.

    Raises:
        MissingPackage: tensorflow-datasets is not installed.
        InvalidArgument: no data set of that name.
        InvalidFile: it could not be downloaded or prepared.
        InvalidData: it has no training split, or no supervised pairs.
    """
    builder = _builder(argument)
    ranges = _ranges(argument, {name: split.num_examples for name, split in builder.info.splits.items()}, options)
    feature, label = (builder.info.features[key] for key in builder.info.supervised_keys[:2])
    size = _size(argument, feature, options)
    datasets = {}
    for split, (origin, start, stop) in ranges.items():
        read = builder.as_dataset(split=f"{origin}[{start}:{stop}]", as_supervised=True, shuffle_files=False)
        if split == "train":
            read = shuffled(read, buffer=min(stop - start, SHUFFLE_BUFFER), seed=options.seed)
        read = read.map(_Form(size), num_parallel_calls=tf.data.AUTOTUNE)
        datasets[split] = untuned(read.batch(options.batch_size).prefetch(tf.data.AUTOTUNE))
    inputs = datasets["train"].element_spec[0]
    spec = DataSpec(
        input_shape=tuple(inputs.shape[1:]),
        dtype=inputs.dtype.name,
        classes=getattr(label, "num_classes", None),
        class_names=tuple(getattr(label, "names", None) or ()) or None,
        samples={split: stop - start for split, (_, start, stop) in ranges.items()},
    )
    return Data(**datasets, spec=spec)


def _builder(name: str) -> Any:
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise MissingPackage(
            f"Data 'tfds:{name}' needs TensorFlow Datasets: pip install tensorflow-datasets"
        ) from error
    try:
        builder = tfds.builder(name)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise InvalidArgument(
            f"TensorFlow Datasets has no data set '{name}'.{nearest(name, tfds.list_builders())}"
        ) from error
    try:
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError) as error:
        raise InvalidFile(f"Data 'tfds:{name}' could not be downloaded or prepared: {error}") from error
    if not builder.info.supervised_keys or "train" not in builder.info.splits:
        raise InvalidData(f"Data 'tfds:{name}' must have a train split and supervised pairs (x, y); it has not.")
    return builder


class _Form:
    """One pair with its image as float32 and resized."""

    def __init__(self, size: tuple[int, int] | None):
        self.size = size

    def __call__(self, x: Any, y: Any) -> tuple[Any, Any]:
        if isinstance(x, tf.Tensor) and x.dtype == tf.uint8:
            x = tf.cast(x, tf.float32)
        return (tf.image.resize(x, self.size) if self.size else x), y


def _ranges(name: str, counts: dict[str, int], options: LoadOptions) -> dict[str, tuple[str, int, int]]:
    """Says for each split which of the data set's own it is read from, and from which sample to which."""
    stop = counts["train"]
    ranges = {split: (split, 0, counts[split]) for split in SPLITS if split in counts}
    for split, share in (("test", TEST_SHARE), ("validation", options.validation)):
        if split not in counts:
            cut = max(1, round(counts["train"] * share))
            ranges[split] = ("train", stop - cut, stop)
            stop -= cut
    index, count = options.shard or (0, 1)
    each = stop // count
    if each < 1:
        raise InvalidData(f"Data 'tfds:{name}' has too few training samples ({counts['train']}) to cut and shard.")
    ranges["train"] = ("train", index * each, (index + 1) * each if options.shard else stop)
    return {split: ranges[split] for split in SPLITS}


def _size(name: str, feature: Any, options: LoadOptions) -> tuple[int, int] | None:
    is_image = len(feature.shape) == 3
    if options.size and not is_image:
        raise InvalidArgument(f"`image_size` is for images; 'tfds:{name}' has shape {feature.shape}. Leave it out.")
    return options.size or (default_size(f"tfds:{name}") if is_image and None in feature.shape else None)
