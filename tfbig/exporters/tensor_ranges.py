"""The range of every activation in a float LiteRT file: matched from training or observed on data, then completed."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfbig.exporters.packing import kind_of, unpack

Range = tuple[float, float]
Learned = tuple[np.ndarray, Range, str]  # values of a tensor of the Keras model, its range, and the scope it is made in

# Ops whose output has the scale of their first input, by AI Edge Quantizer's rules.
_SAME_SCALE = {
    "RESHAPE", "TRANSPOSE", "PAD", "MAX_POOL_2D", "AVERAGE_POOL_2D", "SLICE", "STRIDED_SLICE", "SPLIT", "UNPACK",
    "GATHER", "GATHER_ND", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "BROADCAST_TO", "SQUEEZE", "EXPAND_DIMS",
    "MIRROR_PAD", "SPACE_TO_DEPTH", "REDUCE_MIN", "REDUCE_MAX", "DEPTH_TO_SPACE", "TILE",
}  # fmt: skip
_PRESCRIBED: dict[str, Range] = {
    "LOGISTIC": (0.0, 255 / 256),
    "SOFTMAX": (0.0, 255 / 256),
    "TANH": (-1.0, 127 / 128),
}
_LONGEST_SCOPE = 10_000  # letters, of AI Edge Quantizer
_TOLERANCE = 2e-3  # of the norm; folding and fusing change the last bits of a value, another tensor changes the first
_SAME = 1e-5  # of the norm; nothing but the last bits


@dataclasses.dataclass(frozen=True)
class Op:
    """One op of the file; `inputs` and `outputs` name its float tensors that are not constants, the others all."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    reads: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()

    @property
    def pattern(self) -> str:
        """Matches this op alone among those of AI Edge Quantizer, whose names may begin with the whole of another's."""
        return f"^{re.escape(''.join(f'{name};' for name in self.makes)[:_LONGEST_SCOPE])}$"


@dataclasses.dataclass(frozen=True)
class FileGraph:
    """The ops of a file, and the range of each activation that is known."""

    ops: tuple[Op, ...]
    ranges: dict[str, Range]


def match(content: bytes, probe: dict[str, np.ndarray], learned: Sequence[Learned]) -> dict[str, Range]:
    """Finds, for each activation of the file, the point of the Keras model that has the same value on `probe`.

    Of several, as before and behind a ReLU that had nothing to cut off, it is the one in whose scope the tensor is.
    """
    index = ValueIndex([value for value, _, _ in learned])
    ranges: dict[str, Range] = {}
    for name, value in activations(content, probe):
        close = index.equal_to(value, _SAME) or index.equal_to(value)
        parts = [part.strip() for part in name.split(";")]
        close = [i for i in close if any(is_within(part, learned[i][2]) for part in parts)] or close
        if close:
            ranges[name] = learned[close[0]][1]
    return ranges


def is_within(name: str, scope: str) -> bool:
    """Whether a tensor of this name was made in a scope."""
    return name.startswith(f"{scope}/") or f"/{scope}/" in name


def layer_names(op: str) -> frozenset[str]:
    """The names that layers of the op of this name may have; Keras numbers the scopes of layers that it calls again."""
    pieces = frozenset(piece for part in op.split(";") for piece in part.strip().split("/"))
    return pieces | {re.sub(r"_\d+$", "", piece) for piece in pieces}


class ValueIndex:
    """Finds arrays by their values, whatever their shapes."""

    def __init__(self, values: Sequence[np.ndarray]):
        self.by_size: dict[int, list[tuple[int, np.ndarray]]] = {}
        for position, value in enumerate(values):
            size, print_ = _fingerprint(value)
            self.by_size.setdefault(size, []).append((position, print_))

    def equal_to(self, value: np.ndarray, tolerance: float = _TOLERANCE) -> list[int]:
        """The positions of all arrays that hold the same numbers, but for rounding; the nearest first."""
        size, print_ = _fingerprint(value)
        norm = max(float(print_[0]), 1e-12)
        distances = [(np.max(np.abs(print_ - other)) / norm, i) for i, other in self.by_size.get(size, [])]
        return [i for distance, i in sorted(distances) if distance <= tolerance]


def observe(content: bytes, samples: Iterable[dict[str, np.ndarray]]) -> dict[str, Range]:
    """The smallest and the largest value of each activation over `samples`."""
    ranges: dict[str, Range] = {}
    for inputs in samples:
        for name, value in activations(content, inputs):
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return ranges


def complete(content: bytes, ranges: dict[str, Range]) -> FileGraph:
    """Adds the ranges that LiteRT prescribes, and those that ops hand on from their input or to their output."""
    ops = _read_ops(content)
    known = {**ranges, **_table_ranges(content)}
    for op in ops:
        if op.kind in _PRESCRIBED:
            known.update((name, _PRESCRIBED[op.kind]) for name in op.outputs)
    changed = True
    while changed:
        before = len(known)
        for op in ops:
            if op.kind in _SAME_SCALE and op.inputs:
                source = known.get(op.inputs[0])
                for name in op.outputs:
                    if source is not None:
                        known.setdefault(name, source)
                    elif name in known:
                        source = known.setdefault(op.inputs[0], known[name])
        changed = len(known) > before
    return FileGraph(tuple(ops), known)


def _table_ranges(content: bytes) -> dict[str, Range]:
    """The ranges of tensors whose entries are taken from a constant."""
    model = unpack(content)
    graph = model.subgraphs[0]
    found: dict[str, Range] = {}
    for op in graph.operators:
        table = graph.tensors[op.inputs[0]] if kind_of(model, op) == "GATHER" else None
        if table is not None and table.type == schema.TensorType.FLOAT32 and _has_data(model.buffers[table.buffer]):
            values = np.frombuffer(bytes(model.buffers[table.buffer].data), "float32")
            found[graph.tensors[op.outputs[0]].name.decode()] = (float(values.min()), float(values.max()))
    return found


def activations(content: bytes, inputs: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray]]:
    """Name and value of every float activation of the file for one set of inputs."""
    interpreter, wanted = _watched(content)
    signature = next(iter(interpreter._get_full_signature_list().values()))
    for name, value in inputs.items():
        interpreter.set_tensor(signature["inputs"][name], value)
    interpreter.invoke()
    return [(name, interpreter.get_tensor(index)) for name, index in wanted]


@functools.lru_cache(maxsize=2)
def _watched(content: bytes) -> tuple[Interpreter, list[tuple[str, int]]]:
    """An interpreter that keeps every tensor, and the float activations in it."""
    interpreter = Interpreter(
        model_content=content,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    names = {name for op in _read_ops(content) for name in (*op.inputs, *op.outputs)}
    return interpreter, [(d["name"], d["index"]) for d in interpreter.get_tensor_details() if d["name"] in names]


def _read_ops(content: bytes) -> list[Op]:
    model = unpack(content)
    graph = model.subgraphs[0]

    def names(indices: Sequence[int], *types: int) -> tuple[str, ...]:
        tensors = [graph.tensors[i] for i in (() if indices is None else indices) if i >= 0]
        return tuple(t.name.decode() for t in tensors if not types or t.type in types)

    def floats(indices: Sequence[int]) -> tuple[str, ...]:
        return tuple(name for name in names(indices, schema.TensorType.FLOAT32) if name not in constants)

    constants = {t.name.decode() for t in graph.tensors if _has_data(model.buffers[t.buffer])}
    ops = []
    for op in graph.operators:
        kind, makes = kind_of(model, op), names(op.outputs)
        name = makes[0] if makes else kind
        ops.append(Op(name, kind, floats(op.inputs), floats(op.outputs), names(op.inputs), makes))
    return ops


def _has_data(buffer: Any) -> bool:
    return buffer.data is not None and len(buffer.data) > 0


def _fingerprint(value: np.ndarray) -> tuple[int, np.ndarray]:
    """The number of elements, and the norm and three random projections of the values in memory order."""
    flat = np.asarray(value, "float64").ravel()
    directions = np.random.default_rng(flat.size).standard_normal((3, flat.size))
    return flat.size, np.concatenate([[np.linalg.norm(flat)], directions @ flat])
