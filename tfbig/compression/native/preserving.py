"""The machine of `Preserve`: zeros stay zero and clusters stay clusters while the model trains on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.machine import Machine, straight_through

_MOST_CLUSTERS = 256
_BY_CHANCE = 1e-4


class Preserving(Machine):
    """Holds the structure that the weights have now.

    Zeros are masked. The weights of a cluster are replaced by their mean; each takes the step that its own gradient
    asks for, so that the mean takes the mean of these steps. (One common gradient would be normalised by the optimizer
    to a full step of all of them at once, which moves activations far.)

    Args:
        kernels: the tensors that have zeros or clusters.
        clustered: for each, whether its distinct values are to be kept apart from one another.
    """

    def __init__(self, kernels: Sequence[Kernel], *, clustered: Sequence[bool], name: str = "preserve"):
        super().__init__(kernels, name)
        self.clustered = list(clustered)
        self.labels = [
            self.state(f"label_{i}", k.shape, "int32", _labels(k, c))
            for i, (k, c) in enumerate(zip(kernels, clustered, strict=True))
        ]

    def transform(self, weights: list[tf.Tensor], training: bool) -> list[tf.Tensor]:
        return [
            _hold(weight, tf.convert_to_tensor(label.value), clustered, training)
            for weight, label, clustered in zip(weights, self.labels, self.clustered, strict=True)
        ]


def has_zeros(kernel: Kernel) -> bool:
    """Whether some weights, but not all, are exactly zero; more than the few that an initializer draws by chance."""
    zeros = np.count_nonzero(kernel.variable.numpy() == 0)
    return bool(kernel.size * _BY_CHANCE < zeros < kernel.size)


def has_clusters(kernel: Kernel, *, weights_each: int = 1) -> bool:
    """Whether weights share values, of which there are few, as clustering leaves them.

    In a tensor of 256 weights or less two may be equal by chance; held together as a cluster they do no harm.

    Args:
        weights_each: of every value, on average and at least.
    """
    values = kernel.variable.numpy().ravel()
    if np.unique(values[: 4 * _MOST_CLUSTERS]).size > _MOST_CLUSTERS:  # Sorting all of them takes long.
        return False
    distinct, counts = np.unique(values, return_counts=True)
    few = 1 < distinct.size <= min(_MOST_CLUSTERS, values.size // weights_each)
    return bool(few and counts[distinct != 0].max() > 1)


def _labels(kernel: Kernel, clustered: bool) -> np.ndarray:
    """0 for a zero; 1 for any other weight, or the number of its cluster."""
    values = kernel.variable.numpy()
    if not clustered:
        return (values != 0).astype("int32")
    distinct, index = np.unique(values, return_inverse=True)
    numbers = np.where(distinct == 0, 0, np.arange(1, len(distinct) + 1))
    return numbers[index].reshape(values.shape).astype("int32")


def _hold(weight: tf.Tensor, labels: tf.Tensor, clustered: bool, training: bool) -> tf.Tensor:
    if clustered:
        flat, ids = tf.reshape(weight, (-1,)), tf.reshape(labels, (-1,))
        means = tf.gather(tf.math.unsorted_segment_mean(flat, ids, _MOST_CLUSTERS + 2), ids)
        shared = tf.reshape(means, weight.shape)
        weight = straight_through(weight, shared) if training else shared
    return tf.where(labels > 0, weight, 0.0)
