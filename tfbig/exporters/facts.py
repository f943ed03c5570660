"""What tfbig writes into a LiteRT file about itself: JSON, packed, in a metadata buffer of this name."""

from __future__ import annotations

import json
import zlib
from typing import Any

NAME = "tfbig"
VERSION = 2
ALL = "*"  # in "float_ops": every operation that no other entry names
_LIMIT = 1 << 24  # bytes of the JSON; a file that claims more is not tfbig's


def encode(facts: dict[str, Any]) -> bytes:
    """The bytes of the metadata; each reason why operations stay float stands in them once."""
    names: dict[str, list[str]] = {}
    for op, reason in facts.get("float_ops", {}).items():
        names.setdefault(reason, []).append(op)
    content = {"version": VERSION, **facts, "float_ops": names}
    return zlib.compress(json.dumps(content, sort_keys=True, separators=(",", ":")).encode(), 9)


def decode(content: bytes) -> dict[str, Any]:
    """The facts, with "float_ops" as reason by operation; also those of version 1, which were plain.

    Raises:
        ValueError: damaged.
    """
    if not content.startswith(b"{"):
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(content, _LIMIT)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        if not unpacker.eof:
            raise ValueError("it is cut off")
    facts = json.loads(content.rstrip(b"\0"))
    if not isinstance(facts, dict):
        raise ValueError(f"expected a dictionary, received {type(facts).__name__}")
    reasons = facts.get("float_ops", {})
    if facts.get("version") == VERSION:
        reasons = {op: reason for reason, ops in reasons.items() for op in ops}
    return {**facts, "float_ops": {str(op): str(reason) for op, reason in reasons.items()}}
