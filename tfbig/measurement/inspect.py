"""`inspect`: what is inside a LiteRT file, and which operations stayed float and why."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfbig.exporters.facts import ALL
from tfbig.measurement.constants import stored_values, zero_mask
from tfbig.measurement.flatbuffer import BITS, LiteRTFile, Operation, Tensor, damage_as_error, read_litert
from tfbig.measurement.float_reasons import exporter_reasons, float_reason, float_regions
from tfbig.measurement.inspection import Inspection, Op
from tfbig.measurement.litert import in_child
from tfbig.measurement.weights import UNPACKING, constants_by_operation, is_weight

__all__ = ["Inspection", "Op", "inspect"]

_CONVERSIONS = (*UNPACKING, "QUANTIZE", "CAST")
_ABOUT_SHAPES = ("SHAPE", "RANK")


def inspect(path: str | os.PathLike, *, times: bool = False) -> Inspection:
    """Reads a LiteRT file in a child process and tells what each of its operations is and holds.

    A file is quantized when a weight or an activation is an integer with a scale. In a quantized file each
    operation that still computes in float has a `reason`: the one that `tfbig.export` wrote into the file, or
    what can be seen from the graph.

    Args:
        times: run each operation of the main graph alone and tell its `milliseconds`, on one thread.

    Raises:
        InvalidFile: the file is missing, damaged or not a LiteRT file.
        ConversionFailed: LiteRT crashes on an operation that is timed.
    """
    found = dataclasses.replace(in_child("inspect:read_inspection", str(path)), file=str(path))
    if not times:
        return found
    known = in_child("op_times:time_operations", str(path), 1)
    timed = [dataclasses.replace(op, milliseconds=None if op.subgraph else known.get(op.index)) for op in found.ops]
    return dataclasses.replace(found, ops=tuple(timed))


def read_inspection(path: str) -> Inspection:
    """The work of `inspect`, done in the child."""
    with damage_as_error(path):
        file = read_litert(path)
        constants = dict(constants_by_operation(file))
        scheme = _scheme(file, constants)
        quantized = "int" in scheme
        written, note = exporter_reasons(file)
        reasons = _reasons(file, constants) if quantized else {}
        ops = []
        for subgraph, operation in file.operations():
            reason = reasons.get(operation)
            output = operation.outputs[0].name if operation.outputs else ""
            reason = written.get(output, written.get(ALL, reason)) if reason else None
            ops.append(_op(subgraph, operation, output, constants[operation], reason))
        notes = (note,) if note else ()
        size = Path(path).stat().st_size
        return Inspection(path, size, scheme, quantized, tuple(ops), _bytes_by_dtype(file), notes)


def arithmetic_of(operation: Operation) -> str:
    """What an operation computes in, judged by its activations and by the constants it takes directly."""
    ends = [t for t in (*operation.inputs, *operation.outputs) if t is not None]
    activations = [t for t in ends if t.data is None]
    if operation.type in _CONVERSIONS:
        return "conversion"
    if operation.type in _ABOUT_SHAPES:
        return "index"
    if any(t.is_float for t in activations):
        return "hybrid" if any(t.is_quantized for t in ends if t.data is not None) else "float"
    return "integer" if any(t.is_quantized for t in activations) else "index"


def _op(subgraph: int, operation: Operation, output: str, constants: list[Tensor], reason: str | None) -> Op:
    weights = [t for t in constants if is_weight(t, operation) and t.elements]
    return Op(
        index=operation.index,
        subgraph=subgraph,
        type=operation.type,
        output=output,
        input_dtypes=tuple(t.dtype for t in operation.inputs if t is not None),
        output_dtypes=tuple(t.dtype for t in operation.outputs),
        arithmetic=arithmetic_of(operation),
        weight_bytes=sum(t.data.size for t in constants if t.data is not None),
        reason=reason,
        **_weight_figures(weights, operation),
    )


def _weight_figures(tensors: list[Tensor], operation: Operation) -> dict[str, Any]:
    if not tensors:
        nothing = ("weight_dtype", "weight_bits", "zero_fraction", "distinct", "distinct_per_channel")
        return {**dict.fromkeys(nothing), "weights": 0}
    total = sum(t.elements for t in tensors)
    values = [stored_values(t) for t in tensors]
    zeros = sum(int(np.count_nonzero(zero_mask(t, v))) for t, v in zip(tensors, values, strict=True))
    return {
        "weight_dtype": tensors[0].dtype,
        "weight_bits": BITS[tensors[0].dtype],
        "weights": total,
        "zero_fraction": zeros / total,
        "distinct": max(len(np.unique(v)) for v in values),
        "distinct_per_channel": max(
            _distinct_per_channel(t, v, operation) for t, v in zip(tensors, values, strict=True)
        ),
    }


def _distinct_per_channel(tensor: Tensor, values: np.ndarray, operation: Operation) -> int:
    # LiteRT keeps output channels first, but for depthwise kernels of shape (1, height, width, channels).
    axis = tensor.axis if tensor.scales.size > 1 else -1 if operation.type == "DEPTHWISE_CONV_2D" else 0
    channels = np.sort(np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1), axis=1)
    return int(np.max(np.sum(channels[:, 1:] != channels[:, :-1], axis=1))) + 1


def _scheme(file: LiteRTFile, constants: dict[Operation, list[Tensor]]) -> str:
    """The name of the file's number formats; it has "int" in it if the file is quantized."""
    activations = _activation_dtypes(file)
    held = [(operation, t) for operation, tensors in constants.items() for t in tensors]
    integers = sorted({t.dtype for operation, t in held if t.is_quantized and is_weight(t, operation)})
    if activations:
        base = "int16x8" if "int16" in activations else "/".join(sorted(activations))
        packed = [dtype for dtype in integers if BITS[dtype] < 8]
        return f"{base} ({'/'.join(packed)} weights)" if packed else base
    if integers:
        hybrid = any(arithmetic_of(operation) == "hybrid" for operation in constants)
        return f"{'dynamic range' if hybrid else 'weight-only'} ({'/'.join(integers)} weights)"
    return "float16 weights" if any(t.dtype == "float16" for _, t in held) else "float32"


def _activation_dtypes(file: LiteRTFile) -> set[str]:
    tensors = (t for _, operation in file.operations() for t in operation.outputs)
    return {t.dtype for t in tensors if t.is_quantized and t.data is None}


def _reasons(file: LiteRTFile, constants: dict[Operation, list[Tensor]]) -> dict[Operation, str]:
    """Why each float operation is float, as far as the graph shows it."""
    integer_activations = bool(_activation_dtypes(file))
    floats = {op: number for number, op in file.operations() if arithmetic_of(op) == "float"}
    regions = float_regions(floats)
    return {
        operation: float_reason(
            operation,
            regions[operation],
            subgraph=subgraph,
            has_integer_activations=integer_activations,
            packed_weights=_packed_dtype(constants[operation]),
        )
        for operation, subgraph in floats.items()
    }


def _packed_dtype(constants: Sequence[Tensor]) -> str | None:
    return next((t.dtype for t in constants if t.is_quantized), None)


def _bytes_by_dtype(file: LiteRTFile) -> dict[str, int]:
    """Stored bytes of all constants by type, the largest first; shared buffers count once."""
    sizes: dict[str, int] = {}
    inputs = (t for _, operation in file.operations() for t in operation.inputs)
    stored = {t.buffer: (t.dtype, t.data.size) for t in inputs if t is not None and t.data is not None}
    for dtype, size in stored.values():
        sizes[dtype] = sizes.get(dtype, 0) + size
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))
