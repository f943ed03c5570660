"""Categories by comparison with the vocabulary: no format for devices has tables, bins or counts of whole numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.utils import numerical_utils, tf_utils

from tfbig.training.overrides import overridden

_COUNTING = "tf_encode_categorical_inputs"


@contextmanager
def plain_lookups(layers: Iterable[Any]) -> Iterator[None]:
    """While open, `IntegerLookup`, `Discretization` and the encodings of categories are comparisons and sums.

    Numbers that are not in a vocabulary which has no place for them count as -1, where Keras stops.
    """
    layers = list(layers)
    lookups = [x for x in layers if isinstance(x, keras.layers.IntegerLookup) and not x.invert and _is_plain(x)]
    bins = [layer for layer in layers if isinstance(layer, keras.layers.Discretization)]
    own = getattr(tf_utils, _COUNTING)
    setattr(tf_utils, _COUNTING, _encoded)
    try:
        with overridden(lookups, "_lookup_dense", _lookup), overridden(bins, "call", _discretized):
            yield
    finally:
        setattr(tf_utils, _COUNTING, own)


def _is_plain(layer: keras.layers.IntegerLookup) -> bool:
    return layer.num_oov_indices <= 1 or layer.oov_method != "farmhash"


def _encoded(
    inputs: Any, output_mode: str, depth: int, dtype: str, sparse: bool = False, count_weights: Any = None
) -> tf.Tensor:
    """Which categories occur, or how often, as Keras counts them with bins."""
    if sparse:
        raise ValueError("Keras has another way.")
    hot = tf.one_hot(tf.cast(inputs, tf.int64), depth)
    if count_weights is not None:
        hot *= tf.cast(count_weights, tf.float32)[..., None]
    axis = 1 if inputs.shape.rank > 1 else 0
    return tf.cast(tf.reduce_max(hot, axis) if output_mode == "multi_hot" else tf.reduce_sum(hot, axis), dtype)


def _lookup(layer: keras.layers.IntegerLookup, inputs: tf.Tensor) -> tf.Tensor:
    with tf.init_scope():
        keys, indices = (np.asarray(part) for part in layer.lookup_table.export())
    if layer.mask_token is not None:
        inside = keys != layer.mask_token
        keys, indices = np.append(keys[inside], layer.mask_token), np.append(indices[inside], layer._mask_value)
    equal = inputs[..., None] == tf.constant(keys, inputs.dtype)
    found = tf.reduce_sum(tf.where(equal, tf.constant(indices, tf.int32), 0), -1)
    others: Any = layer._default_value
    if layer.num_oov_indices > 1:
        others = layer._oov_start_index() + tf.cast(tf.math.floormod(inputs, layer.num_oov_indices), tf.int32)
    known = tf.reduce_sum(tf.cast(equal, tf.int32), -1) > 0
    return tf.cast(tf.where(known, found, others), layer._value_dtype)


def _discretized(layer: keras.layers.Discretization, inputs: Any) -> Any:
    inputs = tf.cast(inputs, tf.float32)
    above = inputs[..., None] >= tf.constant(layer.bin_boundaries, tf.float32)
    return numerical_utils.encode_categorical_inputs(
        tf.reduce_sum(tf.cast(above, tf.int32), -1),
        output_mode=layer.output_mode,
        depth=len(layer.bin_boundaries) + 1,
        dtype=layer.output_dtype,
    )
