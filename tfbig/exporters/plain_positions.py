"""The position of the largest and of the smallest entry, by operations that LiteRT and ONNX have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from keras.src.backend.tensorflow import numpy as backend


@contextmanager
def plain_positions() -> Iterator[None]:
    """While open, `keras.ops.argmax` and `argmin` are TensorFlow's own.

    Keras looks at the bits of floats first, to tell -0 from 0, which no format for devices can. The positions are the
    same but where zeros of both signs are the largest or the smallest entries.
    """
    own = {name: getattr(backend, name) for name in ("argmax", "argmin")}
    for name in own:
        setattr(backend, name, _plain(getattr(tf, name)))
    try:
        yield
    finally:
        for name, function in own.items():
            setattr(backend, name, function)


def _plain(position: Any) -> Any:
    def of(x: Any, axis: int | None = None, keepdims: bool = False) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        found = position(tf.reshape(x, [-1]) if axis is None else x, axis=axis or 0, output_type=tf.int32)
        if not keepdims:
            return found
        return tf.reshape(found, [1] * x.shape.rank) if axis is None else tf.expand_dims(found, axis)

    return of
