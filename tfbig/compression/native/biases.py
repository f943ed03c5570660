"""Biases as a LiteRT file holds them: whole multiples of the input's scale times that of a channel's weights.

Left out, four to eight values of ten thousand are rounded to another integer than in the file, and each of these moves
many values of the next layer.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfbig.compression.native.affine import scale_and_offset
from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.points import Plan, Point, kind_of
from tfbig.compression.native.steps import Graph


@dataclasses.dataclass(frozen=True)
class Bias:
    """What the file adds to the sums of a linear op: the layer's bias, and the offset of a BatchNormalization."""

    kernel: Kernel
    source: Point  # where the input of the linear op is rounded
    bias: keras.Variable | None
    norm: Any
    one_scale: bool

    def rounding(self, low: Any, high: Any, bits: int) -> tf.Tensor:
        """What rounding adds to each channel.

        Args:
            low, high: the range of the input, of 8 bits.
            bits: those of the weights, which are rounded already.
        """
        others = [axis for axis in range(len(self.kernel.shape)) if axis not in self.kernel.channel_axes]
        weights = tf.abs(tf.convert_to_tensor(self.kernel.variable))
        channels = tf.reshape(tf.reduce_max(weights, axis=others), (-1,))
        largest = tf.reduce_max(channels) * tf.ones_like(channels) if self.one_scale else channels
        scale = largest / (2 ** (bits - 1) - 1) * (high - low) / 255
        exact = tf.zeros_like(channels) if self.bias is None else tf.convert_to_tensor(self.bias)
        if self.norm is not None:
            factor, offset = scale_and_offset(self.norm)
            scale, exact = scale * tf.abs(factor), exact * factor + offset
        return tf.where(scale > 0, tf.round(tf.math.divide_no_nan(exact, scale)) * scale - exact, 0.0)


def biases(graph: Graph, plan: Plan, kernels: Mapping[int, Kernel], one_scale: frozenset[int]) -> dict[int, Bias]:
    """By tensor, where the bias has been added: what the file rounds it to.

    Args:
        kernels: the weights that the file holds as integers, by the id of their variable.
        one_scale: those of them, by id, all of whose channels share one scale.
    """
    complete = {id(step): tensor for tensor, step in plan.folded.items()}
    norms = {id(plan.folded[step.outputs[0]]): step.operation for step in graph.steps if step.outputs[0] in plan.folded}
    added_later = {step.inputs[0] for step in graph.steps if kind_of(step) == "bias"}
    found = {}
    for step in graph.steps:
        if kind_of(step) != "linear" or step.outputs[0] in added_later:
            continue
        kernel = next((kernels[id(v)] for v in graph.weights_of(step) if id(v) in kernels), None)
        source, tensor = plan.scale_of.get(step.inputs[0]), complete.get(id(step), step.outputs[0])
        bias, norm = getattr(step.operation, "bias", None), norms.get(id(step))
        if kernel is None or source is None or (bias is None and norm is None):
            continue
        if graph.tensors[tensor].shape[-1] == math.prod(kernel.shape[axis] for axis in kernel.channel_axes):
            found[tensor] = Bias(kernel, source, bias, norm, id(kernel.variable) in one_scale)
    return found
