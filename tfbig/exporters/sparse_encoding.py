"""Stores the zeros of pruned weights compactly inside a LiteRT file, in the child process."""

from __future__ import annotations

import gzip
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from tfbig.errors import ConversionFailed
from tfbig.exporters.packing import kind_of, pack, unpack

_GZIP_SLACK = 1.02  # A download may grow by this much when the file itself shrinks.


def encode_sparse(content: bytes, *, sparse: bool | None) -> bytes:
    """Returns the file with sparse tensors encoded as such.

    Args:
        sparse: True encodes every tensor that gets smaller; None only if the gzipped file does not grow with it, as
            it does for 8-bit weights, whose zeros gzip stores better; False leaves the file as it is.
    """
    if sparse is False:
        return content
    if _holds_int4(content):  # On 4-bit constants the sparsifier does not refuse, it ends the process.
        if sparse:
            raise ConversionFailed(
                "`sparse=True`: TensorFlow's sparsifier cannot store 4-bit weights sparsely. Leave `sparse` out, or "
                "quantize to int8."
            )
        return content
    from tensorflow.lite.python.convert import mlir_sparsify

    try:
        encoded = _dense_fully_connected(content, bytes(mlir_sparsify(content)))
    except RuntimeError as error:  # It refuses some graphs, such as one with a pruned embedding, and does not say why.
        if sparse:
            raise ConversionFailed(
                "`sparse=True`: TensorFlow's sparsifier refuses this model. Leave `sparse` out; the zeros then "
                "shrink the gzipped file only."
            ) from error
        return content
    if len(encoded) >= len(content):
        return content
    if not sparse and len(gzip.compress(encoded)) > _GZIP_SLACK * len(gzip.compress(content)):
        return content
    if _runs(encoded):
        return encoded
    if sparse:
        raise ConversionFailed(
            "`sparse=True`: LiteRT's default kernels (XNNPACK) do not run this file, as they do not run convolutions "
            "with sparse integer weights and float activations (quantize='dynamic'). Leave `sparse` out, or quantize "
            "to int8."
        )
    return content


def _runs(content: bytes) -> bool:
    from ai_edge_litert.interpreter import Interpreter

    try:
        Interpreter(model_content=content).allocate_tensors()
    except RuntimeError:
        return False
    return True


def _dense_fully_connected(dense: bytes, sparse: bytes) -> bytes:
    """Gives quantized fully connected ops their dense weights back: XNNPACK, the default, refuses sparse ones."""
    before = unpack(dense)
    after = unpack(sparse)
    graph = after.subgraphs[0]
    densified = {op.outputs[0]: op for op in graph.operators if kind_of(after, op) == "DENSIFY"}
    pairs = list(zip(_fully_connected(before), _fully_connected(after), strict=True))
    changed = False
    for old, new in pairs:
        unpacking = densified.get(new.inputs[1])
        index = unpacking.inputs[0] if unpacking else new.inputs[1]
        tensor, original = graph.tensors[index], before.subgraphs[0].tensors[old.inputs[1]]
        if tensor.sparsity is None or tensor.type == schema.TensorType.FLOAT32:
            continue
        original.buffer, buffer = tensor.buffer, before.buffers[original.buffer]
        graph.tensors[index] = original
        after.buffers[tensor.buffer].data = buffer.data
        new.inputs[1] = index
        if unpacking:
            graph.operators.remove(unpacking)
        changed = True
    return pack(after) if changed else sparse


def _holds_int4(content: bytes) -> bool:
    tensors = (tensor for graph in unpack(content).subgraphs for tensor in graph.tensors)
    return any(tensor.type == schema.TensorType.INT4 for tensor in tensors)


def _fully_connected(model: Any) -> list[Any]:
    return [op for op in model.subgraphs[0].operators if kind_of(model, op) == "FULLY_CONNECTED"]
