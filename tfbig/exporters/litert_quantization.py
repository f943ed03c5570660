"""Quantizes a float LiteRT file with AI Edge Quantizer, in the child process.

The ranges of activations come from training, or from running the float file on data. Trained ranges are matched to the
file's tensors by value: the Keras model and the float file compute the same numbers for the same input, so the tensor that
holds what Keras computes at a point is that point, whatever the converter named it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer.algorithm_manager import AlgorithmName, check_op_quantization_config

from tfbig.exporters.tensor_ranges import FileGraph, Op, Range, complete, match, observe

_STATIC_BITS = {"int8": (8, 8), "int16x8": (8, 16), "int4": (4, 8)}  # weights, activations
_ANY, _ALL = ".*", qtyping.TFLOperationName.ALL_SUPPORTED


def quantize(
    content: bytes,
    *,
    scheme: str,
    probe: dict[str, np.ndarray] | None = None,
    learned: Sequence[tuple[np.ndarray, Range]] = (),
    samples: Iterable[dict[str, np.ndarray]] = (),
    integer_io: bool = False,
) -> tuple[bytes, dict[str, Any]]:
    """Returns the quantized file, and which of its ops stayed float and why.

    Args:
        scheme: "int8", "int16x8", "int4", "dynamic", "weight_only_int8" or "weight_only_int4".
        probe: the file's inputs, by name, on which `learned` was recorded.
        learned: the values at the quantized points of the Keras model for `probe`, and the trained range of each.
        samples: the file's inputs, by name, to observe ranges on where nothing was learned.
        integer_io: make inputs and outputs integers too.
    """
    engine = quantizer.Quantizer(bytearray(content))
    if scheme not in _STATIC_BITS:
        _add_weight_scheme(engine, scheme)
        quantized = engine.quantize(enable_progress_report=False).quantized_model
        return bytes(quantized), {"quantization": scheme}
    assert probe is not None or not learned
    ranges = match(content, probe or {}, learned) if learned else observe(content, samples)
    graph = complete(content, ranges)
    reasons = {op.name: _why_float(op, graph, scheme) for op in graph.ops if op.inputs or op.outputs}
    float_ops = {name: reason for name, reason in reasons.items() if reason}
    _add_static_scheme(engine, scheme, float_ops, integer_io)
    statistics = {name: _as_statistics(r) for name, r in graph.ranges.items()}
    quantized = engine.quantize(statistics, enable_progress_report=False).quantized_model
    return bytes(quantized), {"quantization": scheme, "float_ops": float_ops}


def _add_weight_scheme(engine: quantizer.Quantizer, scheme: str) -> None:
    if scheme == "dynamic":
        engine.add_dynamic_config(_ANY, _ALL, num_bits=8)
    else:
        engine.add_weight_only_config(_ANY, _ALL, num_bits=8)
        if scheme == "weight_only_int4":
            engine.add_weight_only_config(_ANY, _ALL, num_bits=4)


def _add_static_scheme(engine: quantizer.Quantizer, scheme: str, float_ops: dict[str, str], integer_io: bool) -> None:
    weight_bits, activation_bits = _STATIC_BITS[scheme]
    engine.add_static_config(_ANY, _ALL, activation_num_bits=activation_bits, weight_num_bits=8)
    if weight_bits == 4:
        for kind in (qtyping.TFLOperationName.FULLY_CONNECTED, qtyping.TFLOperationName.CONV_2D):
            engine.add_static_config(_ANY, kind, activation_num_bits=activation_bits, weight_num_bits=4)
    if not integer_io:
        for kind in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            engine.update_quantization_recipe(_ANY, kind, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for name in float_ops:
        exactly = f"^{re.escape(name)};"
        engine.update_quantization_recipe(exactly, _ALL, algorithm_key=AlgorithmName.NO_QUANTIZE)


def _why_float(op: Op, graph: FileGraph, scheme: str) -> str | None:
    if not _has_kernel(op, scheme):
        return f"LiteRT and AI Edge Quantizer have no {scheme} form of {op.kind}"
    if any(name not in graph.ranges for name in (*op.inputs, *op.outputs)):
        return "the range of one of its tensors is not known: it lies inside a layer that is computed as a whole"
    return None


def _has_kernel(op: Op, scheme: str) -> bool:
    bits = {"num_bits": _STATIC_BITS[scheme][1], "symmetric": _STATIC_BITS[scheme][1] == 16}
    activation = qtyping.TensorQuantizationConfig(**bits)
    weight = qtyping.TensorQuantizationConfig(
        num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
    )
    config = qtyping.OpQuantizationConfig(
        activation_tensor_config=activation,
        weight_tensor_config=weight,
        compute_precision=qtyping.ComputePrecision.INTEGER,
        explicit_dequantize=False,
    )
    try:
        check_op_quantization_config(AlgorithmName.MIN_MAX_UNIFORM_QUANT, qtyping.TFLOperationName(op.kind), config)
    except ValueError:  # Both an op it does not know and a combination it does not offer.
        return False
    return True


def _as_statistics(values: Range) -> dict[str, np.ndarray]:
    low, high = values
    return {"min": np.array([[low]], "float32"), "max": np.array([[high]], "float32")}
