"""The machine of `Prune`: masks that follow the magnitude of the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.machine import Machine
from tfbig.compression.native.sparsity_layout import Layout
from tfbig.compression.schedule import Schedule

_LEAST = 0.1  # of the weights that pruning layer by layer would keep in a tensor


class Pruning(Machine):
    """Zeroes the weights of smallest magnitude.

    A weight that was zeroed stays so: it gets no gradient, and later masks are cut out of earlier ones, as in TFMOT,
    whose zeroed weights could only come back within a single step.

    Args:
        kernels: the tensors to prune.
        targets: for each kernel, its share of `schedule.final` to reach: the final sparsity of that tensor.
        schedule: sparsity over steps.
        layout: how a tensor is cut into the units that live or die together.
        across: rank the units of all kernels in one list (global pruning) instead of each kernel by itself; a tenth of
            what the latter would keep stays in every kernel, so that no layer dies.
    """

    def __init__(
        self,
        kernels: Sequence[Kernel],
        *,
        targets: Sequence[float],
        schedule: Schedule,
        layout: Layout,
        across: bool = False,
        name: str = "prune",
    ):
        super().__init__(kernels, name)
        self.targets, self.schedule, self.layout, self.across = list(targets), schedule, layout, across
        self.masks = [
            self.state(f"mask_{index}", kernel.shape, "bool", tf.ones(kernel.shape, "bool"))
            for index, kernel in enumerate(kernels)
        ]

    def transform(self, weights: list[tf.Tensor], training: bool) -> list[tf.Tensor]:
        if training:
            step, total = self.step.value, self.total_steps.value
            current = [tf.convert_to_tensor(mask.value) for mask in self.masks]
            renewed = tf.cond(
                self.schedule.due(step, total),
                lambda: self.masks_for(weights, self.schedule.sparsity(step, total) / self.schedule.final),
                lambda: current,
            )
            for mask, value in zip(self.masks, renewed, strict=True):
                mask.assign(value)
        else:
            renewed = [tf.convert_to_tensor(mask.value) for mask in self.masks]
        return _masked(weights, renewed)

    def masks_for(self, weights: list[tf.Tensor], progress: tf.Tensor | float) -> list[tf.Tensor]:
        """The masks at a given share of the way to each tensor's target, within the present ones."""
        weights = _masked([tf.stop_gradient(weight) for weight in weights], [mask.value for mask in self.masks])
        scores = [self.layout.scores(w, k) for w, k in zip(weights, self.kernels, strict=True)]
        if self.across:
            kept = _keep_across(scores, self.targets, progress)
        else:
            kept = [keep_largest(s, target * progress) for s, target in zip(scores, self.targets, strict=True)]
        return [self.layout.spread(keep, k) for keep, k in zip(kept, self.kernels, strict=True)]

    def settle(self) -> None:
        """Brings every tensor to its target, whatever of the schedule was run."""
        weights = [tf.convert_to_tensor(kernel.variable.value) for kernel in self.kernels]
        for mask, value in zip(self.masks, self.masks_for(weights, 1.0), strict=True):
            mask.assign(tf.logical_and(value, mask.value))


def _masked(weights: Sequence[tf.Tensor], masks: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    return [tf.where(mask, weight, 0.0) for mask, weight in zip(masks, weights, strict=True)]


def keep_largest(scores: tf.Tensor, sparsity: tf.Tensor | float) -> tf.Tensor:
    """True for the largest `round(n * (1 - sparsity))` scores of each row; among equals the first ones win.

    The threshold is found by bisecting the bit pattern of a float, which for non-negative numbers orders as the number
    does: 31 counting passes in place of a sort.
    """
    n = int(np.prod(scores.shape[1:]))
    keep = tf.cast(tf.round(n * (1.0 - tf.cast(sparsity, tf.float32))), tf.int32)
    bits = tf.bitcast(tf.cast(scores, tf.float32), tf.int32)
    threshold = _kth_largest(bits, keep)
    above = bits > threshold
    missing = keep - tf.reduce_sum(tf.cast(above, tf.int32), axis=1, keepdims=True)
    equal = tf.equal(bits, threshold)
    return above | (equal & (tf.cumsum(tf.cast(equal, tf.int32), axis=1) <= missing))


def _kth_largest(bits: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
    def with_bit(bit: tf.Tensor, threshold: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        candidate = threshold | bit
        enough = tf.reduce_sum(tf.cast(bits >= candidate, tf.int32), axis=1, keepdims=True) >= tf.maximum(k, 1)
        return bit // 2, tf.where(enough, candidate, threshold)

    # A loop in the graph: 31 copies of its body for each tensor would take longer to trace than to train.
    start = tf.constant(1 << 30), tf.zeros_like(bits[:, :1])
    return tf.while_loop(lambda bit, _: bit > 0, with_bit, start)[1]


def _keep_across(scores: list[tf.Tensor], targets: Sequence[float], progress: tf.Tensor | float) -> list[tf.Tensor]:
    sizes = [int(np.prod(s.shape)) for s in scores]
    share = float(np.average(targets, weights=sizes))
    together = tf.concat([_spared(tf.reshape(s, (1, -1)), 1.0 - share) for s in scores], axis=1)
    parts = tf.split(keep_largest(together, share * progress), sizes, axis=1)
    return [tf.reshape(part, s.shape) for part, s in zip(parts, scores, strict=True)]


def _spared(scores: tf.Tensor, kept: float) -> tf.Tensor:
    """The scores, infinite for the few largest that a tensor keeps however small they are beside other tensors'."""
    few = keep_largest(scores, 1.0 - np.ceil(_LEAST * kept * scores.shape[1]) / scores.shape[1])
    return tf.where(few, np.inf, scores)
