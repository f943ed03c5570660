"""Mixed precision is for training: what is exported computes in float32."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras.src.backend import AutocastScope


@contextlib.contextmanager
def in_float32(layers: Iterable[Any]) -> Iterator[None]:
    """While open, the layers compute in float32, whatever their policies say, also with weights of 16 bits."""
    mixed = [layer for layer in layers if "float16" in layer.compute_dtype]
    policies = [layer.dtype_policy for layer in mixed]
    for layer in mixed:
        layer.dtype_policy = keras.DTypePolicy("float32")
    try:
        with AutocastScope("float32"):
            yield
    finally:
        for layer, policy in zip(mixed, policies, strict=True):
            layer.dtype_policy = policy


def is_cast_to_half(operation: Any) -> bool:
    """Whether an operation only turns real numbers into ones of 16 bits."""
    return type(operation).__name__ == "Cast" and "float16" in str(operation.dtype)
