"""The machine of `Cluster`: the weights of a tensor share a few values, which follow the weights."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from sklearn.cluster import kmeans_plusplus

from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.machine import Machine, straight_through

_SAMPLE = 20_000  # Weights that an initialisation looks at; more change nothing and take long.


class Clustering(Machine):
    """Replaces each weight by the nearest of a few centroids.

    The gradient passes straight to the weights. In every training step each weight goes to its nearest centroid and
    each centroid to the mean of its weights: one round of Lloyd's algorithm, so that centroids and assignments follow
    the training. With an entropy penalty "nearest" counts the length of the code too: clusters that many weights share
    reach farther.

    Args:
        kernels: the tensors to cluster.
        clusters: number of distinct values in each tensor, or in each output channel.
        initialization: "linear", "density", "kmeans++" or "random".
        per_channel: every output channel has centroids of its own.
        keep_zeros: weights that are zero stay zero, and zero counts as one of the clusters.
        entropy_penalty: what a bit of the code of an assignment costs, in variances of the weights.
        seed: for "kmeans++" and "random".
    """

    def __init__(
        self,
        kernels: Sequence[Kernel],
        *,
        clusters: int,
        initialization: str,
        per_channel: bool,
        keep_zeros: bool,
        seed: int,
        entropy_penalty: float = 0.0,
        name: str = "cluster",
    ):
        super().__init__(kernels, name)
        self.per_channel, self.keep_zeros, self.entropy_penalty = per_channel, keep_zeros, entropy_penalty
        free = clusters - 1 if keep_zeros else clusters
        starts = [
            np.stack([first_centroids(row, free, initialization, seed, keep_zeros) for row in self.rows(k).numpy()])
            for k in kernels
        ]
        self.centroids = [self.state(f"centroids_{i}", s.shape, "float32", s) for i, s in enumerate(starts)]
        self.populations = (
            [self.state(f"populations_{i}", s.shape, "float32", np.ones_like(s)) for i, s in enumerate(starts)]
            if entropy_penalty
            else [None] * len(starts)
        )

    def transform(self, weights: list[tf.Tensor], training: bool) -> list[tf.Tensor]:
        states = zip(weights, self.kernels, self.centroids, self.populations, strict=True)
        return [self.cluster(*state, training) for state in states]

    def cluster(
        self,
        weight: tf.Tensor,
        kernel: Kernel,
        variable: keras.Variable,
        populations: keras.Variable | None,
        training: bool,
    ) -> tf.Tensor:
        rows = tf.stop_gradient(self.rows(kernel, weight))
        alive = tf.not_equal(rows, 0.0) if self.keep_zeros else tf.ones_like(rows, tf.bool)
        centroids = tf.convert_to_tensor(variable.value)
        reach = 0.0 if populations is None else self.reach(rows, alive, tf.convert_to_tensor(populations.value))
        assignment = nearest(rows, centroids, reach)
        if training:
            centroids, numbers = means(rows, assignment, alive, centroids)
            variable.assign(centroids)
            if populations is not None:
                populations.assign(numbers)
        shared = self.unrows(kernel, tf.gather(centroids, assignment, batch_dims=1))
        if training:
            shared = straight_through(weight, shared)
        # No gradient reaches a weight that is zero, so that it stays so.
        return tf.where(self.unrows(kernel, alive), shared, 0.0) if self.keep_zeros else shared

    def reach(self, rows: tf.Tensor, alive: tf.Tensor, populations: tf.Tensor) -> tf.Tensor:
        """By how much, in squared distance, each cluster is preferred: the shorter its code, the more."""
        kept = tf.cast(alive, tf.float32)
        variance = tf.reduce_sum(rows**2 * kept, 1, keepdims=True) / tf.maximum(
            tf.reduce_sum(kept, 1, keepdims=True), 1
        )
        share = (populations + 1.0) / tf.reduce_sum(populations + 1.0, 1, keepdims=True)
        return self.entropy_penalty * variance * tf.math.log(share) / np.log(2.0)

    def rows(self, kernel: Kernel, weight: tf.Tensor | None = None) -> tf.Tensor:
        """The weights of shape `(1, size)`, or of `(output channels, size of each)` when every channel has its own."""
        values = tf.convert_to_tensor(kernel.variable.value) if weight is None else weight
        if not self.per_channel:
            return tf.reshape(values, (1, -1))
        channels = int(np.prod([kernel.shape[axis] for axis in kernel.channel_axes]))
        return tf.reshape(tf.transpose(values, _channels_first(kernel)), (channels, -1))

    def unrows(self, kernel: Kernel, rows: tf.Tensor) -> tf.Tensor:
        if not self.per_channel:
            return tf.reshape(rows, kernel.shape)
        order = _channels_first(kernel)
        return tf.transpose(tf.reshape(rows, [kernel.shape[axis] for axis in order]), np.argsort(order))


def nearest(rows: tf.Tensor, centroids: tf.Tensor, reach: tf.Tensor | float = 0.0) -> tf.Tensor:
    """For each value of each row the index of the nearest of the row's centroids, which must be ascending.

    "Nearest" is least `(value - centroid) ** 2 - reach`; a centroid that is nowhere nearest gets no values.
    """
    borders = (centroids[:, 1:] + centroids[:, :-1]) / 2
    if isinstance(reach, tf.Tensor):
        gaps = tf.maximum(centroids[:, 1:] - centroids[:, :-1], 1e-12)
        borders = _ascending(borders + (reach[:, :-1] - reach[:, 1:]) / (2 * gaps))
    return tf.searchsorted(borders, rows)


def _ascending(borders: tf.Tensor) -> tf.Tensor:
    """The borders, each pushed up to the largest before it."""
    columns = tf.unstack(borders, axis=1)
    return tf.stack(list(itertools.accumulate(columns, tf.maximum)), axis=1)


def means(
    rows: tf.Tensor, assignment: tf.Tensor, alive: tf.Tensor, centroids: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The mean and the number of the living values of each cluster; an empty cluster keeps its centroid."""
    count, k = centroids.shape
    ids = tf.reshape(assignment + k * tf.range(count)[:, None], (-1,))
    weight = tf.cast(tf.reshape(alive, (-1,)), tf.float32)
    total = tf.math.unsorted_segment_sum(tf.reshape(rows, (-1,)) * weight, ids, count * k)
    number = tf.math.unsorted_segment_sum(weight, ids, count * k)
    found = tf.math.divide_no_nan(total, number)
    found = tf.where(number > 0, found, tf.reshape(centroids, (-1,)))
    return tf.reshape(found, (count, k)), tf.reshape(number, (count, k))


def first_centroids(values: np.ndarray, k: int, initialization: str, seed: int, skip_zeros: bool) -> np.ndarray:
    """`k` ascending centroids for one row of weights.

    "linear" spaces them evenly from the smallest to the largest weight. "density" puts them at evenly spaced
    quantiles, so that each gets as many weights. "kmeans++" draws weights far from one another (Arthur and
    Vassilvitskii 2007). "random" draws uniformly between the extremes.
    """
    rng = np.random.default_rng(seed)
    values = values[values != 0] if skip_zeros and np.any(values) else values
    sample = values if len(values) <= _SAMPLE else rng.choice(values, _SAMPLE, replace=False)
    if initialization == "linear":
        found = np.linspace(values.min(), values.max(), k)
    elif initialization == "density":
        found = np.quantile(sample, (np.arange(k) + 0.5) / k)
    elif initialization == "random":
        found = rng.uniform(values.min(), values.max(), k)
    else:
        distinct = min(k, len(sample))
        found = kmeans_plusplus(sample.reshape(-1, 1), distinct, random_state=seed)[0].ravel()
        found = np.pad(found, (0, k - distinct), mode="edge")
    return np.sort(found).astype("float32")


def _channels_first(kernel: Kernel) -> list[int]:
    others = [axis for axis in range(len(kernel.shape)) if axis not in kernel.channel_axes]
    return [*kernel.channel_axes, *others]
