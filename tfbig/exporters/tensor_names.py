"""Better names for the tensors of a LiteRT file, in the child process."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from tfbig.exporters.packing import pack, unpack

_OF_THE_PROGRAM = "StatefulPartitionedCall"


def shorten(content: bytes) -> tuple[bytes, dict[str, str]]:
    """Returns the file with names of the last fused operation only, and what became of each name that changed.

    Where the converter fuses operations, it strings the names of all of them together, which would be a few percent of
    a small file. In the bodies of loops, whose names say the loop's each time, only the end of each is left, for they
    would be a third of a recurrent one. Names stay unique: tools that read LiteRT files look tensors up by name.
    """
    model = unpack(content)
    renamed: dict[str, str] = {}
    for number, subgraph in enumerate(model.subgraphs):
        separators = ";/" if number else ";"
        names = [tensor.name.decode() for tensor in subgraph.tensors]
        taken = {name for name in names if not any(mark in name for mark in separators)}
        for tensor, name in zip(subgraph.tensors, names, strict=True):
            if any(mark in name for mark in separators):
                tensor.name = renamed[name] = free_name(re.split(f"[{separators}]", name)[-1], taken)
                taken.add(renamed[name])
    return pack(model), renamed


def name_outputs(content: bytes, names: Mapping[str, str]) -> bytes:
    """Returns the file with these names for what its signature's outputs say.

    The converter calls all outputs after the saved program, so that nobody can tell which layer computes one.
    """
    model = unpack(content)
    tensors = model.subgraphs[0].tensors
    taken = {tensor.name.decode() for tensor in tensors}
    for end in (end for signature in model.signatureDefs or () for end in signature.outputs):
        tensor, name = tensors[end.tensorIndex], names.get(end.name.decode())
        if name and tensor.name.decode().startswith(_OF_THE_PROGRAM):
            tensor.name = free_name(name, taken)
            taken.add(tensor.name)
    return pack(model)


def free_name(name: str, taken: set[str]) -> str:
    """The name, or the first numbered one that is not taken."""
    if name not in taken:
        return name
    return next(numbered for n in itertools.count(1) if (numbered := f"{name}:{n}") not in taken)
