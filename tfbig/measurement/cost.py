"""What one invocation of a LiteRT file costs: multiply-accumulates, and memory for activations at once."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from tfbig.measurement.flatbuffer import BITS, Graph, Operation, Tensor, damage_as_error, read_litert

_ALIGNMENT = 64  # bytes, LiteRT's own
_VIEWS = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")  # Their output lies where their input lies.


@dataclasses.dataclass(frozen=True)
class Cost:
    """At the file's own batch size (1 unless it was exported with another)."""

    macs: int  # multiply-accumulates of convolutions, fully connected layers and products of matrices
    arena_bytes: int  # that LiteRT's planner lays activations out in, without scratch memory of kernels


def cost_of(path: str) -> Cost:
    """Reads a LiteRT file; for the child process."""
    with damage_as_error(path):
        file = read_litert(path)
        macs = sum(multiply_accumulates(operation) for _, operation in file.operations())
        return Cost(macs, arena_bytes(file.graphs[0]))


def multiply_accumulates(operation: Operation) -> int:
    """Of one operation; bodies of loops count once."""
    count = _COUNTERS.get(operation.type)
    return count(operation) if count else 0


def arena_bytes(graph: Graph) -> int:
    """The arena that activations need when large ones are placed first, each in the smallest gap that fits.

    An activation lives from the operation that makes it to the last that reads it; the graph's own inputs and outputs
    stay.

    Reference: Pisarchyk and Lee 2020, "Efficient Memory Management for Deep Neural Net Inference",
    https://arxiv.org/abs/2001.03288, section 5.2 (greedy by size).
    """
    placed: list[tuple[int, int, int, int]] = []  # first use, last use, offset, end
    for first, last, size in sorted(_lifetimes(graph), key=lambda life: -life[2]):
        offset = _best_gap([p[2:] for p in placed if p[0] <= last and first <= p[1]], size)
        placed.append((first, last, offset, offset + size))
    return max((end for *_, end in placed), default=0)


def _best_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    best, smallest, end = None, math.inf, 0
    for start, stop in sorted(taken):
        if size <= start - end < smallest:
            best, smallest = end, start - end
        end = max(end, stop)
    return end if best is None else best


def _lifetimes(graph: Graph) -> list[tuple[int, int, int]]:
    """First use, last use and aligned size of every activation."""
    root: dict[int, Tensor] = {}
    first: dict[int, int] = {}
    last: dict[int, int] = {}

    def use(tensor: Tensor, when: int) -> None:
        owner = root.setdefault(tensor.index, tensor)
        first.setdefault(owner.index, when)
        last[owner.index] = max(last.get(owner.index, when), when)

    end = len(graph.operations)
    for tensor in graph.inputs:
        use(tensor, -1)
        use(tensor, end)
    for when, operation in enumerate(graph.operations):
        inputs = [t for t in operation.inputs if t is not None and t.data is None]
        for tensor in inputs:
            use(tensor, when)
        for tensor in operation.outputs:
            if operation.type in _VIEWS and inputs:
                root.setdefault(tensor.index, root[inputs[0].index])
            use(tensor, when)
    for tensor in graph.outputs:
        if tensor.data is None:
            use(tensor, end)
    tensors = {tensor.index: tensor for tensor in root.values()}
    return [(first[index], last[index], _aligned(tensor)) for index, tensor in tensors.items()]


def _aligned(tensor: Tensor) -> int:
    size = (tensor.elements * BITS.get(tensor.dtype, 8) + 7) // 8
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _inputs(operation: Operation) -> list[Tensor]:
    return [tensor for tensor in operation.inputs if tensor is not None]


def _convolution(operation: Operation) -> int:
    # Weights are (channels out, height, width, channels in of a group).
    return operation.outputs[0].elements * math.prod(_inputs(operation)[1].shape[1:])


def _depthwise(operation: Operation) -> int:
    # Weights are (1, height, width, channels out).
    return operation.outputs[0].elements * math.prod(_inputs(operation)[1].shape[1:3])


def _transposed(operation: Operation) -> int:
    # Inputs are the output's shape, the weights (channels out, height, width, channels in), and the activations.
    _, weights, source = _inputs(operation)[:3]
    return source.elements * math.prod(weights.shape[:3])


def _volume(operation: Operation) -> int:
    # Weights are (depth, height, width, channels in, channels out).
    return operation.outputs[0].elements * math.prod(_inputs(operation)[1].shape[:4])


def _fully_connected(operation: Operation) -> int:
    return operation.outputs[0].elements * _inputs(operation)[1].shape[-1]


def _matrices(operation: Operation) -> int:
    # The inner size is what both factors have and the result has not: a * b = (rows * inner) * (inner * columns).
    first, second = _inputs(operation)[:2]
    product = operation.outputs[0]
    batch = math.prod(product.shape[:-2])
    if not product.elements or not batch:
        return 0
    rows, columns = product.shape[-2:]
    inner = first.shape[-1] if first.shape[-2] == rows else first.shape[-2]
    return batch * rows * columns * inner


_COUNTERS: dict[str, Callable[[Operation], int]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "CONV_3D": _volume,
    "FULLY_CONNECTED": _fully_connected,
    "BATCH_MATMUL": _matrices,
}
