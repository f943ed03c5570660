"""Why an operation of a quantized file computes in float: the exporter's words, else what the graph shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tfbig.exporters.facts import NAME, decode
from tfbig.measurement.flatbuffer import LiteRTFile, Operation, Tensor

# LiteRT has no 8-bit kernel for them, or its converter never gives them one.
_FLOAT_ONLY = {
    *("CONV_3D", "CONV_3D_TRANSPOSE", "NEG", "SQUARE", "SQRT", "SIN", "COS", "POW", "FLOOR", "CEIL", "ROUND"),
    *(
        "CUMSUM",
        "LOCAL_RESPONSE_NORMALIZATION",
        "L2_POOL_2D",
        "SIGN",
        "ATAN2",
        "RFFT2D",
        "ELU",
        "FLOOR_DIV",
        "DIV",
    ),
    *(
        "EXP",
        "LOG",
        "ADD_N",
        "SEGMENT_SUM",
        "BUCKETIZE",
        "REDUCE_PROD",
        "RELU_0_TO_1",
        "RANDOM_UNIFORM",
        "MULTINOMIAL",
    ),
}
_RECURRENT = {
    *("WHILE", "LSTM", "RNN", "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM"),
    *("UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN"),
}
_NORMALIZATION = {
    "MEAN",
    "SUM",
    "SUB",
    "ADD",
    "MUL",
    "DIV",
    "NEG",
    "RSQRT",
    "SQRT",
    "SQUARE",
    "SQUARED_DIFFERENCE",
}


def exporter_reasons(file: LiteRTFile) -> tuple[dict[str, str], str | None]:
    """The reasons that the exporter wrote into the file, by output tensor; a note if they are unreadable."""
    raw = file.metadata.get(NAME)
    if raw is None:
        return {}, None
    try:
        return decode(raw)["float_ops"], None
    except (ValueError, TypeError, AttributeError):
        return {}, f"the metadata '{NAME}' of the file cannot be read; the reasons are general ones"


def float_reason(
    operation: Operation,
    region: Sequence[Operation],
    *,
    subgraph: int,
    has_integer_activations: bool,
    packed_weights: str | None,
) -> str:
    """The reason that can be seen from the graph.

    Args:
        region: the float operations that hang together with this one.
        subgraph: its number; those after the first are bodies of loops and branches.
        packed_weights: the integer type that its weights are stored as, behind a DEQUANTIZE.
    """
    kinds = {op.type for op in region}
    if operation.type.startswith("CUSTOM"):
        return f"{operation.type[7:] or 'it'} is a custom operation, which LiteRT's quantizers leave alone"
    if packed_weights and not has_integer_activations:
        return f"weight-only quantization: the weights are stored as {packed_weights} and computed with in float"
    if not has_integer_activations:
        return "only weights are integers in this file: activations stay float by design"
    if operation.type in _RECURRENT or subgraph > 0:
        return "recurrence: 8-bit rounding errors would pile up from step to step"
    if operation.type in _NORMALIZATION and kinds & {"RSQRT", "SQRT"} and kinds & {"MEAN", "SUM"}:
        return "part of a normalization over features (LayerNormalization), whose 1/sqrt needs more than 8 bits"
    if operation.type in _FLOAT_ONLY:
        return f"LiteRT has no integer kernel for {operation.type}"
    if blockers := sorted(kinds & (_FLOAT_ONLY | _RECURRENT)):
        return f"it hangs on {', '.join(blockers)}, which LiteRT computes in float"
    return "its tensors have no ranges: calibrate with data that reaches it, or train it under Quantize('int8')"


def float_regions(operations: Iterable[Operation]) -> Mapping[Operation, list[Operation]]:
    """Groups float operations that pass tensors to each other."""
    group_of: dict[Operation, list[Operation]] = {}
    groups_at: dict[Tensor, list[Operation]] = {}
    for operation in operations:
        ends = [t for t in (*operation.inputs, *operation.outputs) if t is not None and t.data is None]
        merged = [operation]
        for group in {id(g): g for t in ends if (g := groups_at.get(t))}.values():
            merged += group
        for member in merged:
            group_of[member] = merged
            groups_at.update({t: merged for t in member.outputs})
        groups_at.update({t: merged for t in ends})
    return group_of
