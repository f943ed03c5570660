"""Attention masks that integers can hold: hidden scores just out of sight, in place of -1e9.

One tensor holds the scores and what hides some of them. Cut into 256 steps, a range that reaches down to -1e9 leaves
all scores on one step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.backend.tensorflow import nn as backend

from tfbig.compression.native.openings import hides_some, masked_softmax, out_of_sight
from tfbig.training.overrides import overridden


@contextmanager
def near_masks(layers: Iterable[Any]) -> Iterator[None]:
    """While open, `Softmax` with a mask and `keras.ops.dot_product_attention` hide scores as `Quantize` does."""
    softmaxes = [layer for layer in layers if isinstance(layer, keras.layers.Softmax)]
    own = backend._apply_masks
    backend._apply_masks = _hidden
    try:
        with overridden(softmaxes, "call", _softmax):
            yield
    finally:
        backend._apply_masks = own


def _softmax(layer: Any, inputs: Any, mask: Any = None) -> Any:
    hides = hides_some(layer, {"mask": mask})
    return masked_softmax(layer, inputs, mask) if hides else type(layer).call(layer, inputs, mask)


def _hidden(scores: Any, mask: Any, is_causal: bool) -> Any:
    """The scores (batch, heads, queries, keys), those that the mask or time hides far below all others."""
    visible = None if mask is None else ops.cast(mask, "bool")
    if is_causal:
        past = np.tril(np.ones(tuple(scores.shape[2:]), "bool"))[None, None]
        visible = past if visible is None else ops.logical_and(visible, past)
    return scores if visible is None else ops.where(visible, scores, out_of_sight(scores))
