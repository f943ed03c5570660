"""How an old configuration says which tensors go into a layer."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Ref:
    """A tensor in a configuration: output `tensor` of call number `node` of a layer."""

    layer: str
    node: int
    tensor: int


def references(structure: Any, names: dict[str, Any]) -> Any:
    """Replaces `[layer, node, tensor]` by a `Ref`, and `[layer, node, tensor, {...}]` by `(Ref, {...})`."""
    if isinstance(structure, list):
        if len(structure) in (3, 4) and isinstance(structure[0], str) and isinstance(structure[1], int):
            if structure[0] in names:
                ref: Any = Ref(structure[0], structure[1], structure[2])
            elif structure[0] == "_CONSTANT_VALUE":
                ref = structure[2]
            else:
                return structure
            return ref if len(structure) == 3 else (ref, references(structure[3], names))
        return [references(item, names) for item in structure]
    if isinstance(structure, dict):
        return {key: references(value, names) for key, value in structure.items()}
    return structure


def walk(structure: Any) -> list[Ref]:
    if isinstance(structure, Ref):
        return [structure]
    if isinstance(structure, dict):
        structure = list(structure.values())
    if isinstance(structure, list | tuple):
        return [ref for item in structure for ref in walk(item)]
    return []


def split_arguments(call: Any) -> tuple[Any, dict[str, Any]]:
    """Separates the tensors of a call from the options, which Keras 2 repeats beside each tensor."""
    if isinstance(call, tuple):
        return call[0], dict(call[1])
    parts = call.items() if isinstance(call, dict) else enumerate(call)
    inputs, options = {}, {}
    for key, part in parts:
        inputs[key], found = split_arguments(part) if isinstance(part, tuple | list | dict) else (part, {})
        options.update(found)
    return (inputs if isinstance(call, dict) else list(inputs.values())), options
