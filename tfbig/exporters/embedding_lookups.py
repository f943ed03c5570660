"""Tables of embeddings in a float LiteRT file, brought into the form that can hold them in 8 or 4 bits, row by row.

The converter writes a GATHER, which has float tables or, in a graph of integers, 8-bit ones. EMBEDDING_LOOKUP computes
the same from tables of 8 or 4 bits with a scale for each row, and gives floats.
"""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfbig.exporters.packing import kind_of, pack, unpack


def as_embedding_lookups(content: bytes) -> bytes:
    """Returns the file with an EMBEDDING_LOOKUP for each GATHER that takes whole rows from a constant float table."""
    model = unpack(content)
    found = [(graph, op) for graph in model.subgraphs for op in graph.operators if _takes_rows(model, graph, op)]
    if not found:
        return content
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.EMBEDDING_LOOKUP
    code.version = 3  # the first with 4 bits
    model.operatorCodes.append(code)
    for _, op in found:
        op.opcodeIndex = len(model.operatorCodes) - 1
        op.inputs = [op.inputs[1], op.inputs[0]]
        op.builtinOptions, op.builtinOptionsType = None, schema.BuiltinOptions.NONE
    return pack(model)


def _takes_rows(model: Any, graph: Any, op: Any) -> bool:
    if kind_of(model, op) != "GATHER" or op.builtinOptions.axis or op.builtinOptions.batchDims:
        return False
    table, rows = (graph.tensors[i] for i in op.inputs)
    held = model.buffers[table.buffer].data
    plain = table.type == schema.TensorType.FLOAT32 and rows.type == schema.TensorType.INT32
    return plain and len(table.shape) == 2 and len(rows.shape) == 1 and held is not None and len(held) > 0
