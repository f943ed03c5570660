"""The machine of `Cluster`: the weights of a tensor share a few values, which follow the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from sklearn.cluster import kmeans_plusplus

from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.machine import Machine, straight_through

_SAMPLE = 20_000  # Weights that an initialisation looks at; more change nothing and take long.


class Clustering(Machine):
    """Replaces each weight by the nearest of a few centroids.

    The gradient passes straight to the weights. In every training step each weight goes to its nearest centroid and
    each
    centroid to the mean of its weights: one round of Lloyd's algorithm, so that centroids and assignments follow the
    training.

    Args:
        kernels: the tensors to cluster.
        clusters: number of distinct values in each tensor, or in each output channel.
        initialization: "linear", "density", "kmeans++" or "random".
        per_channel: every output channel has centroids of its own.
        keep_zeros: weights that are zero stay zero, and zero counts as one of the clusters.
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
        name: str = "cluster",
    ):
        super().__init__(kernels, name)
        self.per_channel, self.keep_zeros = per_channel, keep_zeros
        free = clusters - 1 if keep_zeros else clusters
        starts = [
            np.stack([first_centroids(row, free, initialization, seed, keep_zeros) for row in self.rows(k).numpy()])
            for k in kernels
        ]
        self.centroids = [self.state(f"centroids_{i}", s.shape, "float32", s) for i, s in enumerate(starts)]

    def transform(self, weights: list[tf.Tensor], training: bool) -> list[tf.Tensor]:
        return [
            self.cluster(weight, kernel, variable, training)
            for weight, kernel, variable in zip(weights, self.kernels, self.centroids, strict=True)
        ]

    def cluster(self, weight: tf.Tensor, kernel: Kernel, variable: object, training: bool) -> tf.Tensor:
        rows = tf.stop_gradient(self.rows(kernel, weight))
        alive = tf.not_equal(rows, 0.0) if self.keep_zeros else tf.ones_like(rows, tf.bool)
        centroids = tf.convert_to_tensor(variable.value)  # type: ignore[attr-defined]
        assignment = nearest(rows, centroids)
        if training:
            centroids = means(rows, assignment, alive, centroids)
            variable.assign(centroids)  # type: ignore[attr-defined]
        shared = tf.where(alive, tf.gather(centroids, assignment, batch_dims=1), 0.0)
        shared = self.unrows(kernel, shared)
        return straight_through(weight, shared) if training else shared

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


def nearest(rows: tf.Tensor, centroids: tf.Tensor) -> tf.Tensor:
    """For each value of each row the index of the nearest of the row's centroids, which must be ascending."""
    borders = (centroids[:, 1:] + centroids[:, :-1]) / 2
    return tf.searchsorted(borders, rows)


def means(rows: tf.Tensor, assignment: tf.Tensor, alive: tf.Tensor, centroids: tf.Tensor) -> tf.Tensor:
    """The mean of the living values of each cluster; an empty cluster keeps its centroid."""
    count, k = centroids.shape
    ids = tf.reshape(assignment + k * tf.range(count)[:, None], (-1,))
    weight = tf.cast(tf.reshape(alive, (-1,)), tf.float32)
    total = tf.math.unsorted_segment_sum(tf.reshape(rows, (-1,)) * weight, ids, count * k)
    number = tf.math.unsorted_segment_sum(weight, ids, count * k)
    found = tf.math.divide_no_nan(total, number)
    return tf.reshape(tf.where(number > 0, found, tf.reshape(centroids, (-1,))), (count, k))


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
