"""LiteRT files to Python objects and back, in milliseconds instead of seconds, and to fewer bytes."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

_IDENTIFIER = b"TFL3"
_KINDS = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}


def unpack(content: bytes) -> Any:
    """The file as a tree of objects."""
    return with_arrays(flatbuffer_utils.read_model_from_bytearray(bytearray(content)))


def pack(model: Any) -> bytes:
    """The inverse of `unpack`; equal lists of numbers stand in the file once."""
    builder = _Sharing(1024)
    builder.Finish(with_arrays(model).Pack(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


class _Sharing(flatbuffers.Builder):
    """Writes equal arrays once.

    Each channel of a weight has a zero point of 8 bytes, always 0, and its bias has another: a quarter of the file of a
    small depthwise network.
    """

    def __init__(self, size: int):
        super().__init__(size)
        self._written: dict[tuple[str, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        if x.dtype == np.uint8:  # The weights, which are many bytes, and seldom equal.
            return int(super().CreateNumpyVector(x))
        key = x.dtype.str, x.tobytes()
        if key not in self._written:
            self._written[key] = int(super().CreateNumpyVector(x))
        return self._written[key]


def kind_of(model: Any, op: Any) -> str:
    """The name of an op's kind, such as "CONV_2D"."""
    return kind_of_entry(model.operatorCodes[op.opcodeIndex])


def kind_of_entry(entry: Any) -> str:
    """The name of what an entry of the file's list of op types stands for."""
    return _KINDS[flatbuffer_utils.get_builtin_code_from_operator_code(entry)]


def with_arrays(model: Any) -> Any:
    """Turns the data of all buffers into arrays, in place: anything else is written byte by byte, in Python."""
    for buffer in model.buffers:
        if buffer.data is not None and not isinstance(buffer.data, np.ndarray):
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
    return model
