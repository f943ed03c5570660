"""In which number format layers compute; variables stay float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras

from tfbig.errors import unknown

PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


class precision:  # noqa: N801 - reads as a function: `with precision("mixed_float16"):`
    """Sets the precision of layers made from now on; as a context manager, until the end of the block.

    In "mixed_float16" and "mixed_bfloat16" layers compute in 16 bits and keep their variables in float32. A model
    compiled in "mixed_float16" gets dynamic loss scaling from Keras.

    Args:
        name: "float32", "mixed_float16" or "mixed_bfloat16".

    Raises:
        InvalidArgument: another name.

    Reference:
        Micikevicius et al., "Mixed Precision Training", ICLR 2018.
    """

    def __init__(self, name: str):
        check_precision(name)
        self.name = name
        self._before = keras.config.dtype_policy()
        keras.config.set_dtype_policy(name)

    def __enter__(self) -> precision:
        return self

    def __exit__(self, *exception: object) -> None:
        keras.config.set_dtype_policy(self._before)


def check_precision(name: object) -> None:
    """Raises `InvalidArgument` unless `name` is a precision."""
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)


@contextmanager
def computed_in(model: keras.Model, name: str | None) -> Iterator[None]:
    """Lets a model that is already built compute in another precision inside the block.

    Layers that give the model's outputs stay as they are, so that scores and losses keep float32's range.

    Args:
        name: a precision, or None to change nothing.
    """
    if name is None:
        yield
        return
    check_precision(name)
    kept = {id(layer) for layer in _output_layers(model)}
    layers = [layer for layer in model._flatten_layers() if id(layer) not in kept and _is_free(layer)]
    before = [layer.dtype_policy for layer in layers]
    try:
        for layer in layers:
            layer.dtype_policy = keras.DTypePolicy(name)
        yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy
        # What was traced computes in the precision of the block.
        model.train_function = model.test_function = model.predict_function = None


def _is_free(layer: keras.Layer) -> bool:
    """Whether a layer's policy is a plain one: quantized layers keep theirs."""
    return layer.dtype_policy.quantization_mode is None


def _output_layers(model: keras.Model) -> list[keras.Layer]:
    found = []
    for tensor in getattr(model, "outputs", None) or []:
        layer = tensor._keras_history.operation
        found += _output_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found
