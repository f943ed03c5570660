"""Which positions of sequences count: those that the Keras model's own masks let through, not the padding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tfbig.measurement.samples import leaves

Masks = Callable[[Any], list[np.ndarray | None]]


def output_masks(model: Any) -> Masks | None:
    """A function from a batch of inputs to the mask `(samples, positions)` of each output; None for a model without.

    Keras hands masks on from `Embedding(mask_zero=True)` or `Masking` to the outputs, and leaves what they hide out of
    losses and metrics; a file for devices knows nothing of them.
    """
    import tensorflow as tf
    from keras import tree
    from keras.src.backend import get_keras_mask

    outputs = tree.flatten(getattr(model, "outputs", None) or [])
    hidden = [index for index, output in enumerate(outputs) if get_keras_mask(output) is not None]
    if not hidden:
        return None

    @tf.function(reduce_retracing=True)
    def masks(x: Any) -> list[Any]:
        found = tree.flatten(model(x, training=False))
        return [get_keras_mask(found[index]) for index in hidden]

    def of(x: Any) -> list[np.ndarray | None]:
        known = dict(zip(hidden, leaves(masks(x)), strict=True))
        return [known.get(index) for index in range(len(outputs))]

    return of


def visible(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The entries that the mask lets through, one after another; all of them if it is of another shape."""
    if mask is None or values.shape[: mask.ndim] != mask.shape:
        return values
    return values[mask.astype(bool)]
