"""What tfbig writes into a LiteRT file about itself: a metadata buffer named "tfbig", holding JSON."""

from __future__ import annotations

import json
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfbig.exporters.packing import pack, unpack

NAME = "tfbig"
VERSION = 1


def attach(content: bytes, facts: dict[str, Any]) -> bytes:
    """Returns the file with `facts` in its metadata."""
    model = unpack(content)
    buffer = schema.BufferT()
    buffer.data = list(json.dumps({"version": VERSION, **facts}, sort_keys=True).encode())
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = NAME, len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    return pack(model)
