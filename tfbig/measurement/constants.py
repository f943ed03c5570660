"""The values of a constant tensor, whichever way the file stores them: plain, packed, or sparse."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfbig.measurement.flatbuffer import BITS, Tensor


def stored_values(tensor: Tensor) -> np.ndarray:
    """The numbers of a constant as they stand in the file, of the tensor's shape; integers are not
    dequantized.

    4-bit and 2-bit values come unpacked; a sparse tensor comes dense, its missing entries 0.
    """
    if tensor.data is None:
        raise ValueError(f"tensor '{tensor.name}' is not a constant")
    if tensor.sparsity is None:
        return _unpack(tensor.data, tensor.dtype, tensor.elements).reshape(tensor.shape)
    coordinates = _sparse_coordinates(tensor)
    dense = np.zeros(tensor.shape, _numpy_type(tensor.dtype))
    dense[coordinates] = _unpack(tensor.data, tensor.dtype, len(coordinates[0]))
    return dense


def zero_mask(tensor: Tensor, values: np.ndarray) -> np.ndarray:
    """True where a stored value stands for the real number 0 (its channel's zero point)."""
    zero_points = tensor.zero_points
    if zero_points.size > 1:
        shape = [1] * len(tensor.shape)
        shape[tensor.axis] = zero_points.size
        zero_points = zero_points.reshape(shape)
    return values == (zero_points if zero_points.size else 0)


def _numpy_type(dtype: str) -> np.dtype:
    # NumPy has no bfloat16 and no 8-bit floats; as bits they can still be counted, and 0 is 0.
    return np.dtype({"int4": "i1", "int2": "i1", "uint4": "u1", "bfloat16": "u2"}.get(dtype, _plain(dtype)))


def _plain(dtype: str) -> str:
    return "u1" if dtype.startswith("float8") else dtype


def _unpack(data: np.ndarray, dtype: str, elements: int) -> np.ndarray:
    bits = BITS[dtype]
    if bits >= 8:
        return np.frombuffer(data.tobytes(), _numpy_type(dtype), elements)
    # Low bits hold the first value.
    fields = (data[:, None] >> np.arange(0, 8, bits, dtype=np.uint8)) & (2**bits - 1)
    values = fields.reshape(-1)[:elements].astype(np.int8)
    if dtype.startswith("int"):
        values = np.where(values >= 2 ** (bits - 1), values - 2**bits, values)
    return values.astype(_numpy_type(dtype))


def _sparse_coordinates(tensor: Tensor) -> tuple[np.ndarray, ...]:
    """Where each stored value belongs, by walking the levels of the tensor's compressed tree.

    The levels are the dimensions in traversal order, then the dimensions within a block; each is dense or
    CSR.
    """
    order = [int(d) for d in tensor.sparsity.traversalOrder]
    block_map = tensor.sparsity.blockMap
    block_map = [] if block_map is None else [int(d) for d in block_map]
    levels: dict[int, np.ndarray] = {}
    sizes: dict[int, int] = {}
    nodes = 1
    for dimension, metadata in zip(order, tensor.sparsity.dimMetadata, strict=True):
        parents, position = _level(metadata, nodes, tensor.elements)
        levels = {d: p[parents] for d, p in levels.items()} | {dimension: position}
        sizes[dimension] = int(metadata.denseSize)
        nodes = len(position)
    rank = len(tensor.shape)
    for block, dimension in enumerate(block_map):
        levels[dimension] = levels[dimension] * sizes[rank + block] + levels[rank + block]
    return tuple(levels[d] for d in range(rank))


def _level(metadata: Any, nodes: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The parent and the position of every node of the next level."""
    if metadata.arraySegments is None:
        size = int(metadata.denseSize)
        if nodes * size > limit:
            raise ValueError(f"a sparse level holds {nodes * size:,} nodes for {limit:,} elements")
        return np.repeat(np.arange(nodes), size), np.tile(np.arange(size), nodes)
    segments = np.asarray(metadata.arraySegments.values, np.int64)
    position = np.asarray(metadata.arrayIndices.values, np.int64)
    parents = np.repeat(np.arange(nodes), np.diff(segments))
    return parents, position
