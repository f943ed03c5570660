"""Attention with relative positions, over a whole sequence or for one query of it."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

# How far below all others a hidden score is put: e ** -20 is below what float32 can tell from 0 beside 1, and small
# enough not to take up the range of an integer softmax, as the usual -1e9 does.
_OUT_OF_SIGHT = 20.0


@keras.saving.register_keras_serializable(package="tfbig")
class RelativePositionBias(layers.Layer):
    """One learned number per head and bucket of distances, for each pair of a query and a key.

    Half of the buckets hold one distance each; the others grow logarithmically up to `max_distance`.

    Args:
        heads: attention heads.
        queries: places of the queries, `Q`.
        keys: places of the keys, `K`.
        causal: whether keys behind the query are never looked at, so that all buckets go to those before it.
        buckets: number of buckets.
        max_distance: distance from which on all share the last bucket.

    Call arguments:
        x: anything but `one` is not looked at.
        one: whether `x` is the place `(batch,)` of the only query.

    Output shape:
        `(1, heads, Q, K)`, or `(batch, heads, 1, K)` for one query.

    Reference:
        Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        JMLR 21, 2020, section 2.1.
    """

    def __init__(
        self,
        heads: int,
        queries: int,
        keys: int,
        causal: bool = False,
        buckets: int = 32,
        max_distance: int = 128,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.heads, self.queries, self.keys = heads, queries, keys
        self.causal, self.buckets, self.max_distance = causal, buckets, max_distance

    def build(self, input_shape: tuple) -> None:
        self.biases = self.add_weight(shape=(self.buckets, self.heads), initializer="random_normal", name="biases")
        self.built = True

    def call(self, x: Any, one: bool = False) -> Any:
        numbers = bucket_numbers(
            self.queries, self.keys, causal=self.causal, buckets=self.buckets, max_distance=self.max_distance
        )
        table = ops.take(ops.cast(self.biases, self.compute_dtype), numbers, axis=0)  # (Q, K, heads)
        if not one:
            return ops.expand_dims(ops.transpose(table, (2, 0, 1)), 0)
        rows = ops.take(table, ops.clip(x, 0, self.queries - 1), axis=0)  # (batch, K, heads)
        return ops.expand_dims(ops.transpose(rows, (0, 2, 1)), 2)

    def compute_output_spec(self, x: Any, one: bool = False) -> keras.KerasTensor:
        shape = (x.shape[0], self.heads, 1, self.keys) if one else (1, self.heads, self.queries, self.keys)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        own = ("heads", "queries", "keys", "causal", "buckets", "max_distance")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


def bucket_numbers(queries: int, keys: int, *, causal: bool, buckets: int, max_distance: int) -> np.ndarray:
    """The bucket of each pair of a query and a key: whole numbers `(queries, keys)`, in [0, buckets)."""
    ahead = np.arange(keys)[None, :] - np.arange(queries)[:, None]
    if causal:
        return _one_sided(np.maximum(-ahead, 0), buckets, max_distance)
    half = buckets // 2
    return np.where(ahead > 0, half, 0).astype("int32") + _one_sided(np.abs(ahead), half, max_distance)


def _one_sided(distance: np.ndarray, buckets: int, max_distance: int) -> np.ndarray:
    exact = buckets // 2
    growth = np.log(np.maximum(distance, 1) / exact) / math.log(max_distance / exact)
    logarithmic = exact + (growth * (buckets - exact)).astype("int64")
    return np.where(distance < exact, distance, np.minimum(logarithmic, buckets - 1)).astype("int32")


@keras.saving.register_keras_serializable(package="tfbig")
class RelativeAttention(layers.Layer):
    """Mixes values by how well keys and query agree, without weights of its own and without scaling the scores.

    Args:
        heads: attention heads, which divide the last axis of query, keys and values.
        dropout: share of the mixing weights dropped in training, in [0, 1).

    Call arguments:
        query: `(batch, Q, heads * d)`.
        keys: `(batch, K, heads * d)`.
        values: `(batch, K, heads * e)`.
        visible: which keys each query may look at, booleans that broadcast to `(batch, heads, Q, K)`.
        bias: added to the scores; broadcasts to `(batch, heads, Q, K)`.

    Output shape:
        `(batch, Q, heads * e)`.

    Reference:
        Raffel et al., as above; the scale of Vaswani et al., "Attention Is All You Need", NeurIPS 2017, equation 1, is
        in the initial weights of the query.
    """

    def __init__(self, heads: int, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.heads, self.dropout = heads, dropout
        self._dropping = layers.Dropout(dropout, dtype=self.dtype_policy) if dropout else None

    def call(self, query: Any, keys: Any, values: Any, visible: Any, bias: Any = None, training: Any = None) -> Any:
        query, keys, values = (self._by_head(x) for x in (query, keys, values))
        scores = ops.matmul(query, ops.transpose(keys, (0, 1, 3, 2)))
        scores = scores if bias is None else scores + bias
        hidden = ops.stop_gradient(ops.min(scores, axis=(1, 2, 3), keepdims=True)) - _OUT_OF_SIGHT
        weights = ops.softmax(ops.where(visible, scores, hidden))
        if self._dropping is not None:
            weights = self._dropping(weights, training=training)
        mixed = ops.transpose(ops.matmul(weights, values), (0, 2, 1, 3))
        return ops.reshape(mixed, (-1, mixed.shape[1], mixed.shape[2] * mixed.shape[3]))

    def compute_output_spec(self, query: Any, keys: Any, values: Any, *rest: Any, **options: Any) -> keras.KerasTensor:
        return keras.KerasTensor((*query.shape[:2], values.shape[2]), dtype=self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads, "dropout": self.dropout}

    def _by_head(self, x: Any) -> Any:
        split = ops.reshape(x, (-1, x.shape[1], self.heads, x.shape[2] // self.heads))
        return ops.transpose(split, (0, 2, 1, 3))


@keras.saving.register_keras_serializable(package="tfbig")
class Visible(layers.Layer):
    """Which keys each query may look at: all that are not padding, or those not behind the query.

    Args:
        keys: places of the keys, `K`.
        causal: whether keys behind the query are hidden; otherwise where `x` is 0.

    Call arguments:
        x: token ids, `(batch, length)`; or the place `(batch,)` of the only query.
        one: whether `x` is a place.

    Output shape:
        booleans, `(batch, 1, 1, K)` or, causal, `(1, 1, Q, K)`.
    """

    def __init__(self, keys: int, causal: bool = False, **kwargs: Any):
        super().__init__(**kwargs)
        self.causal, self.keys = causal, keys

    def call(self, x: Any, one: bool = False) -> Any:
        if not self.causal:
            return ops.not_equal(x, 0)[:, None, None, :]
        if one:
            return ops.less_equal(ops.arange(self.keys), ops.expand_dims(x, -1))[:, None, None, :]
        return ops.convert_to_tensor(np.tri(self.keys, dtype="bool")[None, None])

    def compute_output_spec(self, x: Any, one: bool = False) -> keras.KerasTensor:
        shape = (1, 1, self.keys, self.keys) if self.causal and not one else (x.shape[0], 1, 1, self.keys)
        return keras.KerasTensor(shape, dtype="bool")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "causal": self.causal, "keys": self.keys}


@keras.saving.register_keras_serializable(package="tfbig")
class Written(layers.Layer):
    """A cache with one more row.

    Call arguments:
        cache: `(batch, length, width)`.
        row: `(batch, 1, width)`.
        position: `(batch,)`, the place to write it.

    Output shape:
        that of `cache`.
    """

    def call(self, cache: Any, row: Any, position: Any) -> Any:
        here = ops.equal(ops.arange(cache.shape[1]), ops.expand_dims(position, -1))
        return ops.where(ops.expand_dims(here, -1), row, cache)

    def compute_output_spec(self, cache: Any, row: Any, position: Any) -> keras.KerasTensor:
        return keras.KerasTensor(cache.shape, dtype=self.compute_dtype)


@keras.saving.register_keras_serializable(package="tfbig")
class Columns(layers.Layer):
    """The columns from `first` to `end` of `(batch, length, width)`."""

    def __init__(self, first: int, end: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.first, self.end = first, end

    def call(self, x: Any) -> Any:
        return x[:, :, self.first : self.end]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "first": self.first, "end": self.end}
