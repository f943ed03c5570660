"""Numbers rounded to the integers of a range, in training with a gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfbig.compression.native.integers import LOOKED_UP, range_of
from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.machine import straight_through


def bits_of(kernel: Kernel, bits: int) -> int:
    """The bits of a weight tensor: 8 where LiteRT has no kernel for fewer, as with depthwise and transposed ones."""
    kind = f"{type(kernel.layer).__name__} {kernel.attribute}".lower()
    return 8 if "depthwise" in kind or "transpose" in kind else bits


def round_weights(weight: tf.Tensor, kernel: Kernel, bits: int, *, one_scale: bool = False) -> tf.Tensor:
    """Rounds to `2 ** bits - 1` symmetric levels, one scale for each output channel: max |w| is the last level.

    With `one_scale` all channels have that of the largest.
    An embedding is a table that rows are taken from, which LiteRT holds like an activation: 256 levels for all of it.
    """
    if kernel.attribute == LOOKED_UP:
        return round_constant(weight, 8)
    channels = () if one_scale else kernel.channel_axes
    others = [axis for axis in range(len(kernel.shape)) if axis not in channels]
    largest = 2 ** (bits - 1) - 1
    # Not divided: a converter that folds constants would multiply, and end one bit beside.
    scale = tf.reduce_max(tf.abs(weight), axis=others, keepdims=True) * (1.0 / largest)
    return tf.round(tf.math.divide_no_nan(weight, scale)) * scale


def fake_quantize(x: tf.Tensor, low: Any, high: Any, bits: int) -> tf.Tensor:
    """Rounds `x` to the integers of a range; the gradient passes inside the range only.

    At 16 bits the range is symmetric, as LiteRT's 16x8 kernels want it; at 8 bits zero is one of the levels.
    """
    if bits == 16:
        bound = tf.maximum(tf.abs(low), tf.abs(high))
        low, high = -bound * 32768 / 32767, bound
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=bits)


def off_ties(ranges: tf.Tensor) -> tf.Tensor:
    """Widens ranges `(rows, 2)` that have 0 half-way between two of their 256 levels, by less than one level in 64.

    Pixels scaled to [-1, 1] all lie half-way there. Each runtime rounds ties in its own way, and half a level, the
    largest error there is, would be the error of every pixel.
    """
    low, high = ranges[:, 0], ranges[:, 1]
    zero = 255.0 * tf.math.divide_no_nan(-low, high - low)
    below = tf.floor(zero)
    is_tie = (tf.abs(zero - below - 0.5) < 0.01) & (below >= 64)
    return tf.stack([low, tf.where(is_tie, low - 255.0 * tf.math.divide_no_nan(low, below), high)], axis=1)


def fake_quantize_ties_away(x: tf.Tensor, low: Any, high: Any, bits: int) -> tf.Tensor:
    """The same, but what lies between two integers goes to the one farther from the integer 0."""

    def away(level: tf.Tensor) -> tf.Tensor:
        # The mean of integers is a tie but for the last bits of a float.
        return tf.sign(level) * tf.floor(tf.abs(level) + 0.501)

    return straight_through(x, _rounded(x, low, high, bits, away))


def round_constant(x: tf.Tensor, bits: int) -> tf.Tensor:
    """Rounds to the integers of the range that `x` has; a converter can compute it once and for all."""
    return _rounded(x, *range_of(x), bits, tf.round)


def _rounded(x: tf.Tensor, low: Any, high: Any, bits: int, to_integer: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    smallest, largest = float(-(2 ** (bits - 1))), float(2 ** (bits - 1) - 1)
    if bits == 16:
        bound = tf.maximum(tf.abs(low), tf.abs(high))
        low, high = -bound * 32768 / 32767, bound
    scale = (high - low) / (largest - smallest)
    zero_point = tf.round(smallest - low / scale)
    level = to_integer(x / scale + zero_point)
    return (tf.clip_by_value(level, smallest, largest) - zero_point) * scale
