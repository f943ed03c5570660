"""A LiteRT file as tensors and operations, read from its flatbuffer and checked before any kernel sees it.

The interpreter trusts the file: an index out of range or a tensor larger than its buffer corrupts memory instead of
raising. So everything here is checked in Python first, and what is wrong becomes an `InvalidFile`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfbig.errors import InvalidFile, unknown

IDENTIFIER = b"TFL3"
_MAX_TENSOR_BYTES = 2**31  # LiteRT's own limit for one tensor.


def _names(enumeration: type) -> dict[int, str]:
    return {value: name for name, value in vars(enumeration).items() if isinstance(value, int)}


_DTYPES = {code: name.lower() for code, name in _names(schema.TensorType).items()}
_OPERATORS = _names(schema.BuiltinOperator)
BITS = {
    **{"int2": 2, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "bool": 8, "int16": 16, "uint16": 16},
    **{"float8_e4m3fn": 8, "float8_e5m2": 8, "float16": 16, "bfloat16": 16, "float32": 32, "float64": 64},
    **{"int32": 32, "uint32": 32, "int64": 64, "uint64": 64, "complex64": 64, "complex128": 128},
}
FLOATS = ("float8_e4m3fn", "float8_e5m2", "float16", "bfloat16", "float32", "float64")


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor of a graph; `data` holds the bytes of a constant, None of an activation."""

    index: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    shape_signature: tuple[int, ...]  # -1 where a dimension may change
    scales: np.ndarray
    zero_points: np.ndarray
    axis: int  # the dimension that `scales` run along when there is more than one
    blockwise: bool
    buffer: int
    data: np.ndarray | None
    sparsity: Any = None

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def is_quantized(self) -> bool:
        """An integer tensor that stands for real numbers, not for indices or shapes."""
        return not self.is_float and (self.scales.size > 0 or self.blockwise)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclasses.dataclass(frozen=True, eq=False)
class Operation:
    """One node; an optional input that is left out is None."""

    index: int
    type: str
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """One subgraph: its operations in execution order."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    operations: tuple[Operation, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class LiteRTFile:
    """Everything that was read: graphs (the first is the main one), the signature that was asked for, metadata."""

    path: str
    graphs: tuple[Graph, ...]
    input_names: dict[str, int]  # name in the signature -> tensor index; empty without a signature
    output_names: dict[str, int]
    metadata: dict[str, bytes]
    signatures: tuple[str, ...] = ()  # the names of all
    signature: str = ""  # the one whose names these are
    graph: int = 0  # the number of its graph

    def operations(self) -> Iterator[tuple[int, Operation]]:
        """Every operation with the number of its subgraph."""
        for number, graph in enumerate(self.graphs):
            for operation in graph.operations:
                yield number, operation


def read_litert(path: str | Path, signature: str | None = None) -> LiteRTFile:
    """Reads a LiteRT file and checks that it is whole.

    Args:
        signature: whose names of inputs and outputs are wanted; by default that of the first graph.

    Raises:
        InvalidFile: missing, empty, not a LiteRT file, truncated or altered.
        InvalidArgument: no such signature.
    """
    content = _read_bytes(Path(path))
    with damage_as_error(path):
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        names = tuple(_text(s.signatureKey) for s in model.signatureDefs or ())
        if signature is None or signature in names:
            return _convert(str(path), model, content, signature, names)
    raise unknown(f"signature of `{path}`", signature, names)


@contextlib.contextmanager
def damage_as_error(path: str | Path) -> Iterator[None]:
    """Turns whatever a damaged flatbuffer provokes while it is read into an `InvalidFile`."""
    try:
        yield
    except InvalidFile:
        raise
    except Exception as error:  # Which one depends on the accessor that meets the damage.
        raise InvalidFile(
            f"`{path}` is damaged ({type(error).__name__}: {error}): it was truncated or altered after it "
            "was written. Export it again, or copy it again from where it was whole."
        ) from error


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise InvalidFile(f"`{path}` is a folder, expected a LiteRT file. Name the .tflite file in it.")
    if not path.is_file():
        raise InvalidFile(f"No file `{path}`. Check the path, or write it with tfbig.export(model, {path.name!r}).")
    content = path.read_bytes()
    if not content:
        raise InvalidFile(f"`{path}` is empty (0 bytes), expected a LiteRT file. Export it again.")
    if content[4:8] != IDENTIFIER:
        kind = " (it is a zip file, as .keras files are)" if content[:2] == b"PK" else ""
        raise InvalidFile(
            f"`{path}` is not a LiteRT file: expected the identifier {IDENTIFIER!r} at byte 4, received "
            f"{content[4:8]!r}{kind}. Write one with tfbig.export(model, 'model.tflite')."
        )
    return content


def _convert(path: str, model: Any, content: bytes, signature: str | None, names: tuple[str, ...]) -> LiteRTFile:
    if not model.subgraphs or not model.buffers:
        raise ValueError("it has no graph")
    codes = [_operator_name(code) for code in model.operatorCodes or ()]
    tensors = [[_tensor(i, t, model, content) for i, t in enumerate(graph.tensors or ())] for graph in model.subgraphs]
    graphs = tuple(_graph(g, known, codes) for g, known in zip(model.subgraphs, tensors, strict=True))
    listed = list(zip(names, model.signatureDefs or (), strict=True))
    chosen = next((s for name, s in listed if (s.subgraphIndex == 0 if signature is None else name == signature)), None)
    graph = chosen.subgraphIndex if chosen else 0
    ends = _pick(tensors, graph)
    return LiteRTFile(
        path=path,
        graphs=graphs,
        input_names=_signature_names(chosen and chosen.inputs, ends),
        output_names=_signature_names(chosen and chosen.outputs, ends),
        metadata={_text(m.name): bytes(_data(model, m.buffer, content)) for m in model.metadata or ()},
        signatures=names,
        signature=_text(chosen.signatureKey) if chosen else "",
        graph=graph,
    )


def _operator_name(code: Any) -> str:
    # Old files keep the operator in the deprecated byte, new ones may need more than a byte.
    name = _OPERATORS[max(code.builtinCode, code.deprecatedBuiltinCode)]
    return f"CUSTOM {_text(code.customCode)}" if name == "CUSTOM" else name


def _signature_names(entries: Any, tensors: Sequence[Tensor]) -> dict[str, int]:
    return {_text(entry.name): _pick(tensors, entry.tensorIndex).index for entry in entries or ()}


def _graph(graph: Any, tensors: Sequence[Tensor], codes: Sequence[str]) -> Graph:
    operations = []
    for index, node in enumerate(graph.operators or ()):
        inputs = [None if i == -1 else _pick(tensors, i) for i in _integers(node.inputs)]
        outputs = [_pick(tensors, i) for i in _integers(node.outputs) if i != -1]
        operations.append(Operation(index, _pick(codes, node.opcodeIndex), tuple(inputs), tuple(outputs)))
    inputs, outputs = ([_pick(tensors, i) for i in _integers(ends)] for ends in (graph.inputs, graph.outputs))
    return Graph(tuple(inputs), tuple(outputs), tuple(operations))


def _tensor(index: int, tensor: Any, model: Any, content: bytes) -> Tensor:
    quantization = tensor.quantization or schema.QuantizationParametersT()
    shape = _integers(tensor.shape)
    raw = _data(model, tensor.buffer, content)
    result = Tensor(
        index=index,
        name=_text(tensor.name),
        dtype=_DTYPES[tensor.type],
        shape=shape,
        shape_signature=_integers(tensor.shapeSignature) or shape,
        scales=_array(quantization.scale, np.float64),
        zero_points=_array(quantization.zeroPoint, np.int64),
        axis=int(quantization.quantizedDimension),
        blockwise=quantization.detailsType == schema.QuantizationDetails.BlockwiseQuantization,
        buffer=int(tensor.buffer),
        data=raw if raw.size else None,
        sparsity=tensor.sparsity,
    )
    _check_tensor(result)
    return result


def _check_tensor(tensor: Tensor) -> None:
    if any(size < 0 for size in tensor.shape) or len(tensor.shape_signature) != len(tensor.shape):
        raise ValueError(f"tensor '{tensor.name}' has the shape {tensor.shape}")
    if tensor.scales.size > 1:
        channels = tensor.shape[tensor.axis] if 0 <= tensor.axis < len(tensor.shape) else None
        if channels != tensor.scales.size or tensor.zero_points.size not in (0, 1, channels):
            raise ValueError(f"tensor '{tensor.name}' has {tensor.scales.size} scales for {channels} channels")
    if not np.all(np.isfinite(tensor.scales)):
        raise ValueError(f"tensor '{tensor.name}' has a scale that is not a number")
    if (bits := BITS.get(tensor.dtype)) is None:
        return
    size = (tensor.elements * bits + 7) // 8
    if size > _MAX_TENSOR_BYTES:
        raise ValueError(f"tensor '{tensor.name}' of shape {tensor.shape} would take {size:,} bytes")
    if tensor.data is not None and tensor.sparsity is None and tensor.data.size != size:
        raise ValueError(f"tensor '{tensor.name}' needs {size:,} bytes and has {tensor.data.size:,}")


def _data(model: Any, number: int, content: bytes) -> np.ndarray:
    buffer = _pick(model.buffers, number)
    if buffer.offset > 1:  # Large files keep the data behind the flatbuffer; 0 and 1 mean that it is inside.
        if buffer.offset + buffer.size > len(content):
            raise ValueError(f"buffer {number} ends behind the end of the file")
        return np.frombuffer(content, np.uint8, int(buffer.size), int(buffer.offset))
    return _array(buffer.data, np.uint8)


def _pick(items: Sequence[Any], index: int) -> Any:
    if not 0 <= index < len(items):
        raise ValueError(f"index {index} is outside a list of {len(items)}")
    return items[index]


def _array(values: Any, dtype: Any) -> np.ndarray:
    # The schema's accessors give the integer 0 for a vector that is not there.
    return np.zeros(0, dtype) if values is None or np.ndim(values) == 0 else np.asarray(values, dtype)


def _integers(values: Any) -> tuple[int, ...]:
    return tuple(_array(values, np.int64).tolist())


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")
