"""Ops that LiteRT computes in integers and AI Edge Quantizer does not know: they pass through it under another name.

To the quantizer an op is a rule for the scales of its inputs and outputs. So an op it does not know is given the code
of one with the same rule before the file is quantized, and its own code back afterwards.
"""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tfbig.exporters.packing import kind_of, kind_of_entry

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
        "ABS": "GELU", "EXP": "GELU", "LEAKY_RELU": "GELU",
        "RELU6": "RELU",
        "MINIMUM": "MAXIMUM",
        "REDUCE_MAX": "REDUCE_MIN", "TILE": "BROADCAST_TO",
    },
}  # fmt: skip
_ACTIVATION_TYPES = (schema.TensorType.INT8, schema.TensorType.INT16)
_SAME_TYPE = ("SPLIT", "UNPACK")  # ops with several outputs of the input's type, of which some may lead nowhere


def disguise(model: Any, bits: int) -> dict[int, int]:
    """Puts stand-ins into a parsed file; returns the true code of each entry of its list of op types that changed."""
    true_codes: dict[int, int] = {}
    for index, entry in enumerate(model.operatorCodes):
        if stand_in := STAND_INS[bits].get(kind_of_entry(entry)):
            true_codes[index] = flatbuffer_utils.get_builtin_code_from_operator_code(entry)
            _set_code(entry, getattr(schema.BuiltinOperator, stand_in))
    return true_codes


def reveal(model: Any, true_codes: dict[int, int]) -> None:
    """Gives the entries that `disguise` changed their own codes back."""
    for index, code in true_codes.items():
        _set_code(model.operatorCodes[index], code)


def give_unused_outputs_a_type(model: Any) -> None:
    """Gives outputs that no op reads the integer type of the others, which the quantizer forgets and kernels demand."""
    graph = model.subgraphs[0]
    for op in graph.operators:
        if kind_of(model, op) in _SAME_TYPE:
            source = next((graph.tensors[i] for i in op.inputs if graph.tensors[i].type in _ACTIVATION_TYPES), None)
            for tensor in (graph.tensors[i] for i in op.outputs):
                if source is not None and tensor.type == schema.TensorType.FLOAT32:
                    tensor.type, tensor.quantization = source.type, source.quantization


def _set_code(entry: Any, code: int) -> None:
    entry.builtinCode, entry.deprecatedBuiltinCode = code, min(code, 127)
