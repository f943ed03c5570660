"""Image files: decoding one, and finding those that cannot be decoded before any training begins."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfbig.errors import InvalidFile

# The last ones cannot be decoded: they are listed so that they are named rather than passed over.
SUFFIXES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".heic", ".avif")
CHANNELS = 3
DEFAULT_SIZE = (96, 96)  # pixels; a usual input of MobileNets for small devices


def default_size(source: str) -> tuple[int, int]:
    """Returns the size for images of different sizes when the user gave none, and says so."""
    height, width = DEFAULT_SIZE
    warnings.warn(
        f"`image_size` was not given: the images of `{source}` are resized to {height} x {width} pixels. "
        "Give the size that your model takes.",
        stacklevel=2,
    )
    return DEFAULT_SIZE


def read_image(path: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Reads a file as float32 `(height, width, 3)` in [0, 255], resized bilinearly as Keras's loader does."""
    return resize(decode(tf.io.read_file(path)), size)


def decode(content: tf.Tensor) -> tf.Tensor:
    """Decodes the bytes of one image as uint8 `(height, width, 3)`; an animation gives its first frame."""
    image = tf.io.decode_image(content, channels=CHANNELS, expand_animations=False)
    return tf.ensure_shape(image, (None, None, CHANNELS))


def resize(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resizes one image bilinearly, without smoothing, as float32."""
    return tf.ensure_shape(tf.image.resize(image, size, method="bilinear"), (*size, CHANNELS))


def readable(paths: Sequence[str], *, corrupt: str) -> np.ndarray:
    """Decodes every file once, in parallel, keeping none, and returns a mask of those that decode.

    Args:
        corrupt: "error" refuses files that do not decode, "skip" warns of them; either way they are named.

    Raises:
        InvalidFile: a file is truncated, corrupt, or not an image.
    """
    mask = np.zeros(len(paths), bool)
    mask[_decodable(paths)] = True
    if mask.all():
        return mask
    bad = [path for path, good in zip(paths, mask, strict=True) if not good]
    if corrupt == "error":
        raise InvalidFile(
            f"{_count(bad, 'image')} cannot be decoded: {_named(bad)} "
            f"({_reason(bad[0])}). Repair or remove such files, "
            'or leave them out with corrupt="skip".'
        )
    warnings.warn(f"Skipped {_count(bad, 'image')} that cannot be decoded: {_named(bad)}.", stacklevel=2)
    return mask


def _decodable(paths: Sequence[str]) -> np.ndarray:
    def index_if_decodable(index: tf.Tensor, path: tf.Tensor) -> tf.Tensor:
        # The size is part of the result, or else the decoding would be pruned from the graph.
        return index + 0 * tf.size(decode(tf.io.read_file(path)), out_type=tf.int64)

    dataset = tf.data.Dataset.from_tensor_slices(list(paths)).enumerate()
    dataset = dataset.map(index_if_decodable, num_parallel_calls=tf.data.AUTOTUNE).ignore_errors()
    return np.array([index for batch in dataset.batch(1024) for index in batch.numpy()], dtype=np.int64)


def _reason(path: str) -> str:
    try:
        decode(tf.io.read_file(path))
    except tf.errors.OpError as error:
        return plain_reason(error)
    return "it decodes now: is something still writing it?"


def plain_reason(error: Exception) -> str:
    """Returns the first line of an error's message without TensorFlow's names of nodes and ops."""
    message = (getattr(error, "message", None) or str(error) or type(error).__name__).splitlines()[0]
    return re.sub(r"^\{\{.*?\}\}\s*| \[Op:.*", "", message).strip()


def _count(paths: list[str], noun: str) -> str:
    return f"{len(paths)} {noun}{'s' if len(paths) > 1 else ''}"


def _named(paths: list[str], limit: int = 5) -> str:
    named = ", ".join(f"`{path}`" for path in paths[:limit])
    return named + (f" and {len(paths) - limit} more" if len(paths) > limit else "")
