"""Several LiteRT files as one file with a signature for each, in the child process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfbig.exporters.packing import pack, unpack
from tfbig.exporters.tensor_names import free_name

_NEWER = "min_runtime_version"  # metadata of which the newest counts


def join(files: Mapping[str, bytes]) -> tuple[bytes, dict[str, dict[str, str]]]:
    """Returns one file with the graphs of all `files`, and for each of them what became of tensor names that changed.

    Constants that hold the same bytes are stored once, such as an embedding that an encoder and a decoder share.

    Args:
        files: with one signature each, by the name that the signature is to have.
    """
    whole, renamed = _Whole(), {}
    for name, content in files.items():
        renamed[name] = whole.add(name, unpack(content))
    return pack(whole.model), renamed


class _Whole:
    """The file that grows, and where things are in it."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]  # By convention the first is empty; activations point there.
        self.model.operatorCodes, self.model.subgraphs = [], []
        self.model.signatureDefs, self.model.metadata = [], []
        self.buffers: dict[bytes, int] = {b"": 0}
        self.codes: dict[tuple, int] = {}
        self.tensor_names: set[str] = set()

    def add(self, name: str, part: Any) -> dict[str, str]:
        """Takes over everything from a parsed file; returns new names of tensors by old ones."""
        first = len(self.model.subgraphs)
        buffers = [self._buffer(buffer) for buffer in part.buffers]
        codes = [self._code(code) for code in part.operatorCodes]
        renamed = self._renamed(part)
        for graph in part.subgraphs:
            for tensor in graph.tensors:
                tensor.buffer = buffers[tensor.buffer]
                old = tensor.name.decode()
                tensor.name = renamed.get(old, old)
            for op in graph.operators:
                op.opcodeIndex = codes[op.opcodeIndex]
                _move_calls(op, first)
            self.model.subgraphs.append(graph)
        (signature,) = part.signatureDefs
        signature.signatureKey, signature.subgraphIndex = name, signature.subgraphIndex + first
        self.model.signatureDefs.append(signature)
        self._add_metadata(part)
        return renamed

    def _buffer(self, buffer: Any) -> int:
        content = b"" if buffer.data is None else bytes(buffer.data)
        if content not in self.buffers:
            self.buffers[content] = len(self.model.buffers)
            self.model.buffers.append(buffer)
        return self.buffers[content]

    def _code(self, code: Any) -> int:
        key = (code.builtinCode, code.deprecatedBuiltinCode, code.customCode, code.version)
        if key not in self.codes:
            self.codes[key] = len(self.model.operatorCodes)
            self.model.operatorCodes.append(code)
        return self.codes[key]

    def _renamed(self, part: Any) -> dict[str, str]:
        """New names for the tensors of a part whose names others have already."""
        own = {tensor.name.decode() for graph in part.subgraphs for tensor in graph.tensors}
        taken, renamed = self.tensor_names | own, {}
        for name in sorted(self.tensor_names & own):
            renamed[name] = free_name(name, taken)
            taken.add(renamed[name])
        self.tensor_names = taken
        return renamed

    def _add_metadata(self, part: Any) -> None:
        present = {entry.name: entry for entry in self.model.metadata}
        for entry in part.metadata or ():
            own = part.buffers[entry.buffer]
            if entry.name not in present:
                entry.buffer = self._buffer(own)
                self.model.metadata.append(entry)
            elif entry.name.decode() == _NEWER:
                old = self.model.buffers[present[entry.name].buffer]
                present[entry.name].buffer = self._buffer(max(old, own, key=_version))


def _version(buffer: Any) -> list[int]:
    text = bytes(buffer.data).rstrip(b"\0").decode()
    return [int(number) for number in text.split(".") if number.isdigit()]


def _move_calls(op: Any, first: int) -> None:
    """Lets loops and branches find their bodies, which are `first` places further behind."""
    for options in (op.builtinOptions, op.builtinOptions2):
        for field in vars(options) if options is not None else ():
            if field == "subgraph" or field.endswith("SubgraphIndex"):
                setattr(options, field, getattr(options, field) + first)
