"""How many weights there are, how many of them are zero, and how many different values they take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from tfbig.measurement.constants import stored_values, zero_mask
from tfbig.measurement.flatbuffer import LiteRTFile, Operation, Tensor, damage_as_error, read_litert

# They only change how a constant is stored; whose constant it is, is said by the operation behind them.
UNPACKING = ("DEQUANTIZE", "DENSIFY")
# Their constants are per-channel vectors and start states, whatever their rank.
_VECTOR_OPS = (
    "ADD",
    "SUB",
    "MUL",
    "DIV",
    "MAXIMUM",
    "MINIMUM",
    "PRELU",
    "POW",
    "SQUARED_DIFFERENCE",
    "WHILE",
    "IF",
)


@dataclasses.dataclass(frozen=True)
class WeightSummary:
    """Counts over a model; zeros and distinct values are those of its compressible weights."""

    parameters: int  # numbers the model holds, biases and statistics included
    weights: int  # those in tensors of rank 2 and more
    zero_fraction: float  # of the weights in tensors of rank 2 and more
    distinct_weights: int  # the most that one such tensor has


def summarize_arrays(arrays: Iterable[np.ndarray]) -> WeightSummary:
    """Summarizes the variables of a Keras model or a SavedModel."""
    parameters = weights = zeros = distinct = 0
    for array in arrays:
        parameters += array.size
        if array.ndim >= 2 and array.size:
            weights += array.size
            zeros += array.size - int(np.count_nonzero(array))
            distinct = max(distinct, len(np.unique(array)))
    return WeightSummary(parameters, weights, zeros / weights if weights else 0.0, distinct)


def summarize_path(path: str) -> WeightSummary:
    """Reads a LiteRT file and summarizes it; for the child process."""
    with damage_as_error(path):
        return summarize_file(read_litert(path))


def summarize_file(model: LiteRTFile) -> WeightSummary:
    """Summarizes the constants of a LiteRT file; a buffer that several tensors share counts once."""
    parameters = weights = zeros = distinct = 0
    for operation, constants in constants_by_operation(model):
        for tensor in constants:
            parameters += tensor.elements
            if is_weight(tensor, operation) and tensor.elements:
                values = stored_values(tensor)
                weights += values.size
                zeros += int(np.count_nonzero(zero_mask(tensor, values)))
                distinct = max(distinct, len(np.unique(values)))
    return WeightSummary(parameters, weights, zeros / weights if weights else 0.0, distinct)


def constants_by_operation(model: LiteRTFile) -> Iterable[tuple[Operation, list[Tensor]]]:
    """Each operation with the constants it computes with, looking through DEQUANTIZE and DENSIFY.

    Indices and shapes are left out; a constant that several operations share goes to the first.
    """
    seen: set[int] = set()
    for graph in model.graphs:
        unpacked: dict[Tensor, Tensor] = {}
        for operation in graph.operations:
            constants = [c for t in operation.inputs if t is not None and (c := _constant(t, unpacked))]
            if operation.type in UNPACKING and constants:
                unpacked[operation.outputs[0]] = constants[0]
                yield operation, []
                continue
            by_buffer = {c.buffer: c for c in constants if c.buffer not in seen}
            seen.update(by_buffer)
            yield operation, list(by_buffer.values())


def _constant(tensor: Tensor, unpacked: dict[Tensor, Tensor]) -> Tensor | None:
    constant = tensor if tensor.data is not None else unpacked.get(tensor)
    return constant if constant is not None and (constant.is_float or constant.is_quantized) else None


def is_weight(tensor: Tensor, operation: Operation) -> bool:
    """Whether a constant is a weight that compression works on, not a bias, a scale or a statistic.

    Converters write per-channel constants as `(1, 1, 1, channels)`: in an elementwise operation that is a
    vector.
    """
    if len(tensor.shape) < 2:
        return False
    return operation.type not in _VECTOR_OPS or sum(size > 1 for size in tensor.shape) >= 2
