"""Quantizes a float LiteRT file with AI Edge Quantizer, in the child process.

The ranges of activations come from training, or from running the float file on data. Trained ranges are matched to the
file's tensors by value: the Keras model and the float file compute the same numbers for the same input, so the tensor
that holds what Keras computes at a point is that point, whatever the converter named it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_quantizer import qtyping, quantizer
from ai_edge_quantizer.algorithm_manager import AlgorithmName, check_op_quantization_config

from tfbig.compression.native.affine import TOO_COARSE
from tfbig.errors import ConversionFailed
from tfbig.exporters.calibration import calibrate
from tfbig.exporters.embedding_lookups import as_embedding_lookups
from tfbig.exporters.facts import ALL
from tfbig.exporters.float_regions import float_regions
from tfbig.exporters.litert_layers import FloatFile
from tfbig.exporters.packing import pack, unpack, with_arrays
from tfbig.exporters.stand_ins import STAND_INS, disguise, give_unused_outputs_a_type, reveal
from tfbig.exporters.tensor_ranges import (
    FileGraph,
    Learned,
    Op,
    Range,
    complete,
    is_within,
    layer_names,
    match,
)
from tfbig.exporters.weight_ranges import Statistics, WeightRange, ranges_of_weights
from tfbig.exporters.weight_scales import biases_of, shorten_scales
from tfbig.registry import Registry

repair_registry = Registry("tfbig.exporters.repairs", "repair")

_STATIC_BITS = {"int8": (8, 8), "int16x8": (8, 16), "int4": (4, 8)}  # weights, activations
_QUIET = {"enable_progress_report": False, "enable_progress_bar": False}
_RECURRENT = "the model is recurrent, and rounding errors of 8 bits would pile up from step to step"
_CHOSEN = {
    "float": "its layer was named to stay float",
    "float_columns": TOO_COARSE,
    "dynamic": "its layer was named to have integer weights only (dynamic range)",
    "weight_only_int8": "its layer was named to have integer weights only",
    "weight_only_int4": "its layer was named to have integer weights only",
}
_ANY, _ALL = ".*", qtyping.TFLOperationName.ALL_SUPPORTED
_LOOKUP = qtyping.TFLOperationName.EMBEDDING_LOOKUP
_UNSOUND = {"DIV": "LiteRT's integer division overflows unless the range of its result is very narrow"}
_QUANTIZER_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}  # where it has a name of its own for an op


def quantize(
    content: bytes,
    *,
    scheme: str,
    probe: dict[str, np.ndarray] | None = None,
    learned: Sequence[Learned] = (),
    samples: Iterable[dict[str, np.ndarray]] = (),
    weighted: Collection[str] = (),
    weight_ranges: Sequence[WeightRange] = (),
    float_layers: Mapping[str, str] | None = None,
    whole_layers: Mapping[str, str] | None = None,
    weights_only: str | None = None,
    integer_io: bool = False,
    method: str = "minmax",
    repairs: Sequence[str] = (),
    schemes: Mapping[str, str] | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """Returns the quantized file, and which of its ops stayed float and why.

    Args:
        scheme: "int8", "int16x8", "int4", "dynamic", "weight_only_int8", "weight_only_int4"; or "hybrid", which is
            "dynamic" for a model whose activations cannot be integers.
        probe: the file's inputs, by name, on which `learned` was recorded.
        learned: the values at the quantized points of the Keras model for `probe`, with range and scope of each.
        weighted: names of the layers whose weights become integers; known where `samples` are given.
        weight_ranges: of weights that the Keras model has: the largest weight of each channel, and that of its range.
        samples: the file's inputs, by name, to observe ranges on where nothing was learned.
        float_layers: scopes of ops that are to stay float, and the reason.
        whole_layers: scopes of ops whose tensors were not seen in training, and the reason.
        weights_only: why the scheme is "hybrid".
        integer_io: make inputs and outputs integers too.
        method: of choosing ranges from `samples`, one of `calibrations`.
        repairs: what is done to the float file first, names of `repairs`; each knows its place in the order.
        schemes: globs of layer names, and how their ops are quantized instead: "float" ("float_columns" for tables that
            are too coarse as integers), or a scheme.
    """
    samples = list(samples)
    content = _repaired(content, repairs, samples, _STATIC_BITS[scheme][0], schemes or {}) if repairs else content
    content = content if scheme in _STATIC_BITS else as_embedding_lookups(content)
    engine = _engine(content)
    if scheme not in _STATIC_BITS:
        _add_weight_scheme(engine, scheme)
        quantized = bytes(engine.quantize(**_QUIET).quantized_model)
        if scheme != "hybrid":
            return quantized, {"quantization": scheme, "float_ops": {}}
        reason = f"only weights are integers (dynamic range): {weights_only or _RECURRENT}"
        return quantized, {"quantization": "dynamic", "float_ops": {ALL: reason}}
    assert probe is not None or not learned
    ranges = match(content, probe or {}, learned) if learned else None
    if ranges is None:
        ranges = calibrate(content, samples, method, _STATIC_BITS[scheme][1])
    graph = complete(content, ranges)
    reasons = {op.name: _why_float(op, graph, scheme, float_layers or {}, whole_layers or {}) for op in graph.ops}
    if not learned:
        reasons |= float_regions(graph, _STATIC_BITS[scheme][1], weighted)
    float_ops = {name: reason for name, reason in reasons.items() if reason}
    others = {op.name: other for op in graph.ops if (other := _scheme_of(op.name, schemes or {}))}
    float_ops.update((name, _CHOSEN[other]) for name, other in others.items() if other not in _STATIC_BITS)
    patterns = {op.name: op.pattern for op in graph.ops}
    _add_static_scheme(engine, scheme, [patterns[name] for name in float_ops], integer_io)
    _add_other_schemes(engine, {patterns[name]: other for name, other in others.items()})
    quantized = _run(engine, graph, scheme, weight_ranges)
    return quantized, {"quantization": scheme, "float_ops": float_ops}


def _engine(content: bytes) -> quantizer.Quantizer:
    engine = quantizer.Quantizer(bytearray(content))
    with_arrays(engine._float_model)
    return engine


def _run(
    engine: quantizer.Quantizer, graph: FileGraph, scheme: str, weight_ranges: Sequence[WeightRange] = ()
) -> bytes:
    weight_bits, activation_bits = _STATIC_BITS[scheme]
    # The parsed file is the engine's own; it has no public way to change one before it is quantized.
    model = engine._float_model
    # Each range with the rank of its tensor, as the engine's own calibration has it: constants take over the shape.
    ranks = {tensor.name.decode(): len(_shape(tensor)) for tensor in model.subgraphs[0].tensors}
    known = {name: values for name, values in graph.ranges.items() if name in ranks}  # Those of another file are not.
    statistics: dict[str, Statistics] = {name: _as_statistics(values, ranks[name]) for name, values in known.items()}
    of_weights, factors = ranges_of_weights(model, graph.ranges, weight_ranges, weight_bits, activation_bits)
    statistics.update(of_weights)
    biases, places = biases_of(model), _places_of_outputs(model)
    renamed = disguise(model, activation_bits)
    try:
        content = engine.quantize(statistics, **_QUIET).quantized_model
    except ValueError as error:
        if len(model.subgraphs) == 1:
            raise
        raise ConversionFailed(
            "The model has branches or loops (keras.ops.cond, while_loop or scan), whose insides AI Edge Quantizer "
            f"cannot make integers: {error} Write them with keras.ops.where, or take quantize='dynamic'."
        ) from error
    quantized = unpack(content)
    reveal(quantized, renamed)
    give_unused_outputs_a_type(quantized)
    for signature, positions in zip(quantized.signatureDefs, places, strict=True):
        for output, position in zip(signature.outputs, positions, strict=True):
            output.tensorIndex = quantized.subgraphs[signature.subgraphIndex].outputs[position]
    shorten_scales(quantized, biases, factors)
    return pack(quantized)


def _places_of_outputs(model: Any) -> list[list[int]]:
    """Where each signature's outputs stand among the graph's: the quantizer leaves those behind that ops read too."""
    places = []
    for signature in model.signatureDefs:
        outputs = list(model.subgraphs[signature.subgraphIndex].outputs)
        places.append([outputs.index(output.tensorIndex) for output in signature.outputs])
    return places


def quantize_only(content: bytes, *, scheme: str, ranges: dict[str, Range], ops: Collection[str]) -> bytes:
    """Returns the float file with only some of its ops quantized, as far as `scheme` has a form for them.

    Args:
        scheme: as of `quantize`.
        ranges: of the activations, by tensor name; needed where the scheme makes them integers.
        ops: the names of the ops, which are those of their first output.
    """
    engine = _engine(content)
    graph = complete(content, ranges)
    if scheme not in _STATIC_BITS:
        for op in graph.ops:
            if op.name in ops:
                _add_weight_scheme(engine, scheme, op.pattern)
        return bytes(engine.quantize(**_QUIET).quantized_model) if ops else content
    floats = [op.pattern for op in graph.ops if op.name not in ops or _why_float(op, graph, scheme, {}, {})]
    if len(floats) == len(graph.ops):
        return content
    _add_static_scheme(engine, scheme, floats, integer_io=False)
    return _run(engine, graph, scheme)


def _add_weight_scheme(engine: quantizer.Quantizer, scheme: str, pattern: str = _ANY) -> None:
    if scheme in ("dynamic", "hybrid"):
        engine.add_dynamic_config(pattern, _ALL, num_bits=8)
    else:
        engine.add_weight_only_config(pattern, _ALL, num_bits=8)
        if scheme == "weight_only_int4":
            engine.add_weight_only_config(pattern, _ALL, num_bits=4)
        # Rows are looked up in integers and made floats one by one; else the whole table would be made floats first.
        engine.add_dynamic_config(pattern, _LOOKUP, num_bits=4 if scheme == "weight_only_int4" else 8)


def _add_static_scheme(engine: quantizer.Quantizer, scheme: str, floats: Iterable[str], integer_io: bool) -> None:
    weight_bits, activation_bits = _STATIC_BITS[scheme]
    engine.add_static_config(_ANY, _ALL, activation_num_bits=activation_bits, weight_num_bits=8)
    if weight_bits == 4:
        for kind in (qtyping.TFLOperationName.FULLY_CONNECTED, qtyping.TFLOperationName.CONV_2D):
            engine.add_static_config(_ANY, kind, activation_num_bits=activation_bits, weight_num_bits=4)
    if not integer_io:
        for kind in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            engine.update_quantization_recipe(_ANY, kind, algorithm_key=AlgorithmName.NO_QUANTIZE)
    for pattern in floats:
        engine.update_quantization_recipe(pattern, _ALL, algorithm_key=AlgorithmName.NO_QUANTIZE)


def _repaired(
    content: bytes,
    repairs: Sequence[str],
    samples: Sequence[dict[str, np.ndarray]],
    bits: int,
    schemes: Mapping[str, str],
) -> bytes:
    """The float file with other weights, but for layers that have a scheme of their own."""
    file = FloatFile(content)
    file.layers = [layer for layer in file.layers if _scheme_of(layer.result, schemes) is None]
    for module in sorted((repair_registry[name] for name in repairs), key=lambda module: module.ORDER):
        module.repair(file, samples, bits)
    return file.pack()


def _scheme_of(op: str, schemes: Mapping[str, str]) -> str | None:
    """The scheme of the last glob that names a layer of the op of this name."""
    names = layer_names(op)
    found = [scheme for glob, scheme in schemes.items() if any(fnmatch.fnmatchcase(name, glob) for name in names)]
    return found[-1] if found else None


def _add_other_schemes(engine: quantizer.Quantizer, others: Mapping[str, str]) -> None:
    for pattern, scheme in others.items():
        if scheme in _STATIC_BITS:
            weight_bits, activation_bits = _STATIC_BITS[scheme]
            engine.add_static_config(pattern, _ALL, activation_num_bits=activation_bits, weight_num_bits=weight_bits)
        elif scheme not in ("float", "float_columns"):
            _add_weight_scheme(engine, scheme, pattern)


def _why_float(
    op: Op, graph: FileGraph, scheme: str, float_layers: Mapping[str, str], whole_layers: Mapping[str, str]
) -> str | None:
    if not op.inputs and not op.outputs:
        return None  # It works on whole numbers.
    if chosen := _said_of(op, float_layers):
        return chosen
    if op.kind in _UNSOUND:
        return _UNSOUND[op.kind]
    if not _has_kernel(op, scheme):
        return f"LiteRT and AI Edge Quantizer have no {scheme} form of {op.kind}"
    if all(name in graph.ranges for name in (*op.inputs, *op.outputs)):
        return None
    where = _said_of(op, whole_layers) or "no tensor of the Keras model has the same values"
    return f"the range of one of its tensors is not known: {where}"


def _said_of(op: Op, scopes: Mapping[str, str]) -> str | None:
    """What is said of the scope that an op stands in."""
    parts = [part.strip() for part in op.name.split(";")]
    return next((text for path, text in scopes.items() if any(is_within(part, path) for part in parts)), None)


def _has_kernel(op: Op, scheme: str) -> bool:
    bits = _STATIC_BITS[scheme][1]
    activation = qtyping.TensorQuantizationConfig(num_bits=bits, symmetric=bits == 16)
    weight = qtyping.TensorQuantizationConfig(
        num_bits=8, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
    )
    config = qtyping.OpQuantizationConfig(
        activation_tensor_config=activation,
        weight_tensor_config=weight,
        compute_precision=qtyping.ComputePrecision.INTEGER,
        explicit_dequantize=False,
    )
    kind = STAND_INS[bits].get(op.kind, op.kind)
    try:
        name = qtyping.TFLOperationName(_QUANTIZER_NAMES.get(kind, kind))
        check_op_quantization_config(AlgorithmName.MIN_MAX_UNIFORM_QUANT, name, config)
    except ValueError:  # Both an op it does not know and a combination it does not offer.
        return False
    return True


def _shape(tensor: Any) -> Sequence[int]:
    return () if tensor.shape is None else tensor.shape


def _as_statistics(values: Range, rank: int) -> Statistics:
    low, high = (np.full((1,) * rank, value, "float32") for value in values)
    return {"min": low, "max": high}
