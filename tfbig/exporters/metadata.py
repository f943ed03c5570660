"""Puts the facts about a LiteRT file into its metadata."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfbig.exporters.facts import NAME, encode
from tfbig.exporters.packing import pack, unpack


def attach(content: bytes, facts: dict[str, Any]) -> bytes:
    """Returns the file with `facts` in its metadata."""
    model = unpack(content)
    buffer = schema.BufferT()
    buffer.data = list(encode(facts))
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return pack(model)
