"""LiteRT files to Python objects and back, in milliseconds instead of seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert.tools import flatbuffer_utils


def unpack(content: bytes) -> Any:
    """The file as a tree of objects."""
    return with_arrays(flatbuffer_utils.read_model_from_bytearray(bytearray(content)))


def pack(model: Any) -> bytes:
    """The inverse of `unpack`."""
    return bytes(flatbuffer_utils.convert_object_to_bytearray(with_arrays(model)))


def with_arrays(model: Any) -> Any:
    """Turns the data of all buffers into arrays, in place: anything else is written byte by byte, in Python."""
    for buffer in model.buffers:
        if buffer.data is not None and not isinstance(buffer.data, np.ndarray):
            buffer.data = np.frombuffer(bytes(buffer.data), np.uint8)
    return model
