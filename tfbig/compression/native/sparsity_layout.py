"""How a weight tensor is cut into the units that pruning keeps or zeroes together."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import tensorflow as tf

from tfbig.compression.native.kernels import Kernel
from tfbig.errors import InvalidArgument

_TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)


@dataclasses.dataclass(frozen=True)
class Layout:
    """Single weights, each a unit of its own."""

    def check(self, kernel: Kernel) -> None:
        """Raises `InvalidArgument` if the kernel cannot be cut this way."""

    def fits(self, kernel: Kernel) -> bool:
        """Whether the kernel can be cut this way."""
        try:
            self.check(kernel)
        except InvalidArgument:
            return False
        return True

    def scores(self, weight: tf.Tensor, kernel: Kernel) -> tf.Tensor:
        """The magnitude of each unit, of shape `(groups, units)`; units compete within their group."""
        return tf.abs(tf.reshape(weight, (1, -1)))

    def spread(self, keep: tf.Tensor, kernel: Kernel) -> tf.Tensor:
        """The mask of the kernel's shape from the decisions on its units."""
        return tf.reshape(keep, kernel.shape)


@dataclasses.dataclass(frozen=True)
class Blocks(Layout):
    """Blocks of `height` x `width` in the matrix `(inputs, output channels)`, by their mean magnitude."""

    height: int
    width: int

    def scores(self, weight: tf.Tensor, kernel: Kernel) -> tf.Tensor:
        matrix = tf.abs(_matrix(weight, kernel))
        rows, columns = matrix.shape
        ones = tf.pad(tf.ones_like(matrix), self._padding(rows, columns))
        total = self._pool(tf.pad(matrix, self._padding(rows, columns)))
        return tf.reshape(total / self._pool(ones), (1, -1))

    def spread(self, keep: tf.Tensor, kernel: Kernel) -> tf.Tensor:
        moved = _channels_last(np.arange(len(kernel.shape)), kernel)
        shape = [kernel.shape[axis] for axis in moved]
        columns = int(np.prod(shape[len(shape) - len(kernel.channel_axes) :]))
        rows = kernel.size // columns
        grid = tf.reshape(keep, (-(-rows // self.height), -(-columns // self.width)))
        matrix = tf.repeat(tf.repeat(grid, self.height, axis=0), self.width, axis=1)[:rows, :columns]
        return tf.transpose(tf.reshape(matrix, shape), np.argsort(moved))

    def _pool(self, matrix: tf.Tensor) -> tf.Tensor:
        rows, columns = matrix.shape
        cut = tf.reshape(matrix, (rows // self.height, self.height, columns // self.width, self.width))
        return tf.reduce_sum(cut, axis=(1, 3))

    def _padding(self, rows: int, columns: int) -> list[list[int]]:
        return [[0, -rows % self.height], [0, -columns % self.width]]


@dataclasses.dataclass(frozen=True)
class NOfM(Layout):
    """At most `n` weights live among every `m` neighbours along the input channels, as sparse matrix units want."""

    n: int
    m: int

    def check(self, kernel: Kernel) -> None:
        size = kernel.shape[_input_axis(kernel)]
        if size % self.m:
            raise InvalidArgument(
                f"`pattern` is {self.n}:{self.m}, but '{kernel.name}' has {size} input channels, which {self.m} does "
                f"not divide. Leave the layer out with layers={{'{kernel.layer.name}': None}}."
            )

    def scores(self, weight: tf.Tensor, kernel: Kernel) -> tf.Tensor:
        moved = _inputs_last(kernel)
        return tf.abs(tf.reshape(tf.transpose(weight, moved), (-1, self.m)))

    def spread(self, keep: tf.Tensor, kernel: Kernel) -> tf.Tensor:
        moved = _inputs_last(kernel)
        shape = [kernel.shape[axis] for axis in moved]
        return tf.transpose(tf.reshape(keep, shape), np.argsort(moved))


def parse_layout(block_size: tuple[int, int], pattern: str | None) -> Layout:
    """The layout of the options `block_size` and `pattern`; at most one of them may be set."""
    if pattern is None:
        return Layout() if tuple(block_size) == (1, 1) else Blocks(*block_size)
    parts = str(pattern).split(":")
    if len(parts) != 2 or not all(part.isdigit() for part in parts) or not 0 < int(parts[0]) < int(parts[1]):
        raise InvalidArgument(f"`pattern` must be 'N:M' with 0 < N < M, such as '2:4', received {pattern!r}.")
    if tuple(block_size) != (1, 1):
        raise InvalidArgument(
            f"`pattern` and `block_size` exclude each other, received pattern={pattern!r} and "
            f"block_size={block_size!r}. Give one of them."
        )
    return NOfM(int(parts[0]), int(parts[1]))


def _input_axis(kernel: Kernel) -> int:
    rank = len(kernel.shape)
    return rank - 1 if isinstance(kernel.layer, _TRANSPOSED) or kernel.channel_axes == (0,) else rank - 2


def _inputs_last(kernel: Kernel) -> list[int]:
    """The axes of the kernel, in order but for that of the input channels, which comes last."""
    inputs = _input_axis(kernel)
    return [axis for axis in range(len(kernel.shape)) if axis != inputs] + [inputs]


def _channels_last(axes: np.ndarray, kernel: Kernel) -> list[int]:
    return [int(a) for a in axes if a not in kernel.channel_axes] + list(kernel.channel_axes)


def _matrix(weight: tf.Tensor, kernel: Kernel) -> tf.Tensor:
    moved = _channels_last(np.arange(len(kernel.shape)), kernel)
    columns = int(np.prod([kernel.shape[axis] for axis in kernel.channel_axes]))
    return tf.reshape(tf.transpose(weight, moved), (-1, columns))
