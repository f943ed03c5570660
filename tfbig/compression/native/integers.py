"""What LiteRT's 8-bit kernels compute, integer for integer.

Rounding the floats that Keras computes is almost that, and not enough: of ten thousand values a few become the next
integer, each of them moves many in the next layer, and behind twenty layers most values differ. The kernels followed
here are XNNPACK's, which LiteRT takes unless it is told otherwise. Its own plain kernels multiply with rounded factors,
and round twice: where XNNPACK has none, it is theirs that are followed.

All functions take and return real values, which are integers times a scale.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfbig.compression.native.affine import scale_and_offset
from tfbig.compression.native.kernels import Kernel

NARROWEST = 1e-5  # A range of nothing would divide by zero; this is far below any activation that matters.
LOOKED_UP = "embeddings"  # The weights that rows are taken from; what is taken has the scale of the whole.
_BIAS_LIMIT = 2.0**30  # Of the 2 ** 31 that a bias of 32 bits can hold; channels get a scale that keeps within it.


class Grid(NamedTuple):
    """The 256 real values that a tensor of the file can have: `(integer - zero_point) * scale`."""

    scale: tf.Tensor
    zero_point: tf.Tensor

    @classmethod
    def of(cls, low: Any, high: Any) -> Grid:
        low, high = tf.convert_to_tensor(low, tf.float32), tf.convert_to_tensor(high, tf.float32)
        scale = divided(high - low, 255.0)
        return cls(scale, tf.round(-128.0 - low / scale))

    def nearest(self, x: tf.Tensor, *, ties_up: bool = False) -> tf.Tensor:
        """The value of the grid next to each of `x`; of two, that of the even integer, or the higher one."""
        levels = x * (1.0 / self.scale)
        # Means of integers are ties but for the last bits of a float.
        levels = tf.floor(levels + 0.501) if ties_up else tf.round(levels)
        return tf.clip_by_value(levels, -128.0 - self.zero_point, 127.0 - self.zero_point) * self.scale

    def clipped(self, x: tf.Tensor, ready: tf.Tensor) -> tf.Tensor:
        """Multiples of the scale brought into the grid, if that is `ready`."""
        low, high = (-128.0 - self.zero_point) * self.scale, (127.0 - self.zero_point) * self.scale
        return tf.clip_by_value(x, tf.where(ready, low, -np.inf), tf.where(ready, high, np.inf))

    @classmethod
    def of_constant(cls, values: tf.Tensor) -> Grid:
        """That of a tensor of the file's own numbers."""
        return cls.of(*range_of(values))


def range_of(constant: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The range of a tensor of the file's own numbers, 0 included."""
    low, high = tf.minimum(tf.reduce_min(constant), 0.0), tf.maximum(tf.reduce_max(constant), 0.0)
    return low, tf.maximum(high, low + NARROWEST)


def divided(x: tf.Tensor, number: float) -> tf.Tensor:
    """`x / number`, to the last bit.

    Graph compilers multiply with the inverse instead, which would make the next float of it, but for the longer type.
    """
    return tf.cast(tf.cast(x, tf.float64) / number, tf.float32)


def shortened(scales: Any) -> tf.Tensor:
    """The nearest numbers of 10 significant bits to positive ones: at most a thousandth of each away.

    A file holds a scale for each channel, and another one for its bias, whose 24 bits no archiver can pack.
    """
    bits = tf.bitcast(tf.convert_to_tensor(scales, tf.float32), tf.int32)
    return tf.bitcast(tf.bitwise.left_shift(tf.bitwise.right_shift(bits + 2**13, 14), 14), tf.float32)


def requantize(
    y: tf.Tensor,
    factor: Any,
    largest: Any,
    bias: Any,
    source: Grid,
    end: Grid,
    *,
    bits: int = 8,
    short: bool = True,
) -> tf.Tensor:
    """The real values, on the grid of `end` but of any size, of sums of products of integers.

    Args:
        y: the sums, in real values.
        factor: of each channel, that the file has in its weights.
        largest: the largest weight of each channel, without the factor.
        bias: of each channel, in real values.
        bits: of the weights.
        short: whether the file has shortened scales for the weights, which are those of their integers otherwise.
    """
    levels = 2.0 ** (bits - 1) - 1.0
    bound = tf.maximum(tf.abs(largest * factor), tf.abs(bias) * (levels / (source.scale * _BIAS_LIMIT)))
    scale = divided(bound, levels)
    sums = tf.round(y * tf.math.divide_no_nan(factor, source.scale * scale))
    unit = source.scale * (shortened(scale) if short else scale)
    sums += tf.round(tf.math.divide_no_nan(bias, unit))
    return tf.round(sums * (unit / end.scale)) * end.scale


@dataclasses.dataclass(frozen=True)
class Operand:
    """A tensor that goes into an operation, on its grid."""

    values: tf.Tensor
    grid: Grid

    @property
    def integers(self) -> tf.Tensor:
        """Above the zero point."""
        return tf.round(self.values / self.grid.scale)


@dataclasses.dataclass(frozen=True)
class Sums:
    """A linear op: products of integers are summed, and an integer bias is added.

    A BatchNormalization behind it is in the weights of the file, channel by channel, and in the bias.
    """

    kernel: Kernel
    own_bias: Any  # that of the layer itself, or None
    later_bias: Any  # what is added next, or None
    norm: Any
    one_scale: bool
    channels: tuple[int, ...]  # the last axes of the output, which the weights have scales for
    bits: int  # of the weights

    def outputs(self, y: tf.Tensor, source: Grid, end: Grid) -> tf.Tensor:
        """What the file has behind the bias and the BatchNormalization, from the linear layer's own output."""
        bias = _vector(self.later_bias)
        if self.own_bias is not None:
            y, bias = y - _vector(self.own_bias), bias + _vector(self.own_bias)
        factor, offset = scale_and_offset(self.norm) if self.norm is not None else (tf.ones(()), 0.0)
        largest, short = self._largest_weights(), self.kernel.attribute != LOOKED_UP
        return requantize(y, factor, largest, bias * factor + offset, source, end, bits=self.bits, short=short)

    def _largest_weights(self) -> tf.Tensor:
        others = [axis for axis in range(len(self.kernel.shape)) if axis not in self.kernel.channel_axes]
        weights = tf.abs(tf.convert_to_tensor(self.kernel.variable))
        channels = tf.reshape(tf.reduce_max(weights, axis=others), self.channels)
        return tf.reduce_max(channels) * tf.ones_like(channels) if self.one_scale else channels


def _vector(bias: Any) -> tf.Tensor:
    return tf.zeros(()) if bias is None else tf.cast(tf.convert_to_tensor(bias), tf.float32)


class Rule:
    """How an operation computes its integers."""

    takes_constants = False  # Whether an operand may be numbers of the model.

    def outputs(self, y: tf.Tensor, operands: list[Operand], end: Grid) -> tf.Tensor:
        """The real values on the grid of `end`, of any size; `y` is what Keras has computed."""
        raise NotImplementedError(f"{type(self).__name__} must say how it computes.")


@dataclasses.dataclass(frozen=True)
class Affine(Rule):
    """A BatchNormalization of its own, which is a depthwise convolution of one pixel in the file."""

    norm: Any

    def outputs(self, y: tf.Tensor, operands: list[Operand], end: Grid) -> tf.Tensor:
        [x] = operands
        factor, offset = scale_and_offset(self.norm)
        return requantize(x.values, factor, 1.0, offset, x.grid, end)


@dataclasses.dataclass(frozen=True)
class Mean(Rule):
    """The mean of some numbers: their sum, zero points included, and one factor."""

    count: int

    def outputs(self, y: tf.Tensor, operands: list[Operand], end: Grid) -> tf.Tensor:
        [x] = operands
        offset = x.grid.zero_point * self.count
        factor = x.grid.scale / end.scale * (1.0 / self.count)
        sums = tf.round(y * (self.count / x.grid.scale)) + offset
        # Added before rounding, as there: the last bits of what is lost decide what is half-way between two integers.
        return (tf.round(sums * factor + (end.zero_point - offset * factor)) - end.zero_point) * end.scale


@dataclasses.dataclass(frozen=True)
class Product(Rule):
    """The product of two tensors."""

    takes_constants = True

    def outputs(self, y: tf.Tensor, operands: list[Operand], end: Grid) -> tf.Tensor:
        left, right = operands
        factor = left.grid.scale * right.grid.scale / end.scale
        return tf.round(left.integers * right.integers * factor) * end.scale


@dataclasses.dataclass(frozen=True)
class MatrixProduct(Rule):
    """Products of rows and columns that both depend on the input.

    XNNPACK takes those whose second operand has the zero point 0, and LiteRT's own kernel all others: it has a factor
    of 31 bits, and rounds twice.
    """

    def outputs(self, y: tf.Tensor, operands: list[Operand], end: Grid) -> tf.Tensor:
        left, right = operands
        unit = left.grid.scale * right.grid.scale
        sums = tf.round(y / unit)
        levels = tf.where(
            tf.equal(right.grid.zero_point, 0.0),
            tf.round(sums * (unit / end.scale)),
            tf.cast(self._rounded_twice(tf.cast(sums, tf.int64), left.grid, right.grid, end), tf.float32),
        )
        return levels * end.scale

    def _rounded_twice(self, sums: tf.Tensor, left: Grid, right: Grid, end: Grid) -> tf.Tensor:
        scales = [tf.cast(grid.scale, tf.float64) for grid in (left, right, end)]
        factor, shift = _fixed_point(scales[0] * scales[1] / scales[2], 31, tf.int64)
        return _shifted(_upper(_shifted(sums, tf.maximum(shift, 0)) * factor, 31), tf.minimum(shift, 0))


@dataclasses.dataclass(frozen=True)
class Addition(Rule):
    """The sum or the difference of two tensors, whose factors have 21 bits."""

    sign: int = 1
    takes_constants = True

    def outputs(self, y: tf.Tensor, operands: list[Operand], end: Grid) -> tf.Tensor:
        factors = [x.grid.scale / end.scale for x in operands]
        shift = 20 - exponent(tf.maximum(*factors))
        left, right = (
            tf.cast(x.integers, tf.int32) * tf.cast(tf.round(factor * power_of_two(shift)), tf.int32)
            for x, factor in zip(operands, factors, strict=True)
        )
        half = tf.bitwise.left_shift(1, shift - 1)
        levels = tf.bitwise.right_shift(left + self.sign * right + half, shift)
        return tf.cast(levels, tf.float32) * end.scale


@dataclasses.dataclass(frozen=True)
class Leaky(Rule):
    """Numbers below and above 0 have factors of their own, of 8 bits behind the point; equal ones change the grid."""

    slope: float = 1.0

    def outputs(self, y: tf.Tensor, operands: list[Operand], end: Grid) -> tf.Tensor:
        [x] = operands
        factor = x.grid.scale / end.scale
        integers = x.integers
        factors = tf.where(integers < 0, tf.round(256.0 * (factor * self.slope)), tf.round(256.0 * factor))
        return tf.floor((integers * factors + 128.0) / 256.0) * end.scale


@dataclasses.dataclass(frozen=True)
class ReLU(Rule):
    """A ReLU that is an op of its own, and changes the scale: one factor, ties up, and nothing else is rounded."""

    def outputs(self, y: tf.Tensor, operands: list[Operand], end: Grid) -> tf.Tensor:
        [x] = operands
        factor = tf.cast(x.grid.scale / end.scale, tf.float64)
        levels = tf.floor(tf.cast(tf.maximum(x.integers, 0.0), tf.float64) * factor + 0.5)
        return tf.cast(levels, tf.float32) * end.scale


@dataclasses.dataclass(frozen=True)
class HardSwish(Rule):
    """`x * relu6(x + 3) / 6` in 16 bits, as LiteRT's own kernel has it, for XNNPACK has none."""

    def outputs(self, y: tf.Tensor, operands: list[Operand], end: Grid) -> tf.Tensor:
        [x] = operands
        fine = tf.cast(x.integers, tf.int32) * 128
        factor, shift = _fixed_point(x.grid.scale / 128.0 / end.scale, 15, tf.int32)
        gate_factor, gate_shift = _fixed_point(x.grid.scale / 128.0 * (32768.0 / 3.0), 15, tf.int32)
        widened = _clipped(_shifted(fine, tf.maximum(gate_shift - 1, 0)))
        gate = _clipped(_shifted(_upper(widened * gate_factor, 15), tf.minimum(gate_shift, 1)))
        gate = tf.bitwise.right_shift(gate + 2**15, 1)
        levels = _shifted(_upper(gate * _upper(fine * factor, 15), 15, rounding=False), shift)
        return tf.cast(levels, tf.float32) * end.scale


def exponent(x: tf.Tensor) -> tf.Tensor:
    """The largest integer `n` with `2 ** n <= x`, of positive numbers."""
    return tf.bitwise.right_shift(tf.bitcast(x, tf.int32), 23) - 127


def power_of_two(n: tf.Tensor) -> tf.Tensor:
    """`2.0 ** n`, to the last bit."""
    return tf.bitcast(tf.bitwise.left_shift(n + 127, 23), tf.float32)


def _fixed_point(factor: tf.Tensor, bits: int, dtype: tf.DType) -> tuple[tf.Tensor, tf.Tensor]:
    """An integer of so many bits and a shift to the left, which together make the factor."""
    shift = exponent(tf.cast(factor, tf.float32)) + 1
    whole = tf.cast(tf.round(factor * tf.cast(power_of_two(bits - shift), factor.dtype)), dtype)
    return tf.minimum(whole, tf.constant(2**bits - 1, dtype)), tf.cast(shift, dtype)


def _upper(product: tf.Tensor, bits: int, *, rounding: bool = True) -> tf.Tensor:
    """`product / 2 ** bits`, of two numbers of so many bits; rounded with ties up, or towards zero."""
    if rounding:
        half = tf.constant(2 ** (bits - 1), product.dtype)
        product += tf.where(product >= 0, half, 1 - half)
    return tf.sign(product) * tf.bitwise.right_shift(tf.abs(product), tf.constant(bits, product.dtype))


def _shifted(x: tf.Tensor, n: tf.Tensor) -> tf.Tensor:
    """`x * 2 ** n`; where `n` is negative, ties go away from zero."""
    right = tf.maximum(-n, 0)
    mask = tf.bitwise.left_shift(tf.ones_like(n), right) - 1
    above = tf.bitwise.bitwise_and(x, mask) > tf.bitwise.right_shift(mask, tf.ones_like(n)) + tf.cast(x < 0, x.dtype)
    return tf.bitwise.right_shift(tf.bitwise.left_shift(x, tf.maximum(n, 0)), right) + tf.cast(above, x.dtype)


def _clipped(x: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(x, -(2**15), 2**15 - 1)
