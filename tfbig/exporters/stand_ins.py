"""Ops that LiteRT computes in integers and AI Edge Quantizer does not know: they pass through it under another name.

To the quantizer an op is a rule for the scales of its inputs and outputs. So an op it does not know is given the code of
one with the same rule before the file is quantized, and its own code back afterwards.
"""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

# By activation bits: op -> op whose rule it follows. LiteRT has a kernel for each; those of 16 bits are fewer.
STAND_INS: dict[int, dict[str, str]] = {
    8: {
        "ABS": "GELU", "ELU": "GELU", "EXP": "GELU", "LEAKY_RELU": "GELU", "LOG": "GELU",
        "RELU6": "RELU", "RELU_N1_TO_1": "RELU",
        "PRELU": "MUL",
        "MINIMUM": "MAXIMUM",
        "REDUCE_MAX": "REDUCE_MIN", "DEPTH_TO_SPACE": "SPACE_TO_DEPTH", "TILE": "BROADCAST_TO",
    },
    16: {
        "ABS": "GELU", "EXP": "GELU", "LEAKY_RELU": "GELU", "RELU6": "RELU", "MINIMUM": "MAXIMUM",
        "REDUCE_MAX": "REDUCE_MIN", "TILE": "BROADCAST_TO",
    },
}  # fmt: skip


def disguise(content: bytes, bits: int) -> tuple[bytes, dict[str, str]]:
    """Returns the file with stand-ins, and the ops they stand for by the name of their output."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    renamed: dict[str, str] = {}
    codes: dict[str, int] = {}
    graph = model.subgraphs[0]
    for op in graph.operators:
        kind = kind_of(model, op)
        if stand_in := STAND_INS[bits].get(kind):
            renamed[graph.tensors[op.outputs[0]].name.decode()] = kind
            op.opcodeIndex = codes.setdefault(stand_in, _code_index(model, stand_in))
    return (bytes(flatbuffer_utils.convert_object_to_bytearray(model)), renamed) if renamed else (content, renamed)


def reveal(content: bytes, renamed: dict[str, str]) -> bytes:
    """Gives the ops that `disguise` renamed their own codes back."""
    if not renamed:
        return content
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    graph = model.subgraphs[0]
    for op in graph.operators:
        name = graph.tensors[op.outputs[0]].name.decode() if len(op.outputs) else ""
        kind = renamed.get(name)
        if kind and kind_of(model, op) in STAND_INS[8].values():
            op.opcodeIndex = _code_index(model, kind)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def kind_of(model: Any, op: Any) -> str:
    """The name of an op's type."""
    code = flatbuffer_utils.get_builtin_code_from_operator_code(model.operatorCodes[op.opcodeIndex])
    return _NAMES[code]


def _code_index(model: Any, kind: str) -> int:
    """The index of an op type in the file's list, where it is put if it is not there."""
    wanted = getattr(schema.BuiltinOperator, kind)
    for index, entry in enumerate(model.operatorCodes):
        if flatbuffer_utils.get_builtin_code_from_operator_code(entry) == wanted:
            return index
    entry = schema.OperatorCodeT()
    entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = wanted, min(wanted, 127), 1
    model.operatorCodes.append(entry)
    return len(model.operatorCodes) - 1


_NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if not name.startswith("_")}
