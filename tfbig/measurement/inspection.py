"""What `inspect` returns: the operations of a LiteRT file, their types, bytes and weights."""

from __future__ import annotations

import dataclasses
import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

Arithmetic = str  # "integer", "hybrid" (float in and out, integer weights), "float", "conversion" or "index"


@dataclasses.dataclass(frozen=True)
class Op:
    """One operation of the file; the figures of its weights are None where it has none.

    The weights are its constants of rank 2 and more, all together; `weight_bytes` counts its biases too.
    """

    index: int  # in its subgraph
    subgraph: int
    type: str  # LiteRT's name, e.g. "CONV_2D"
    output: str  # name of its first output tensor
    input_dtypes: tuple[str, ...]
    output_dtypes: tuple[str, ...]
    arithmetic: Arithmetic
    weight_bytes: int  # as stored
    weight_dtype: str | None
    weight_bits: int | None
    weights: int  # how many numbers
    zero_fraction: float | None
    distinct: int | None  # different stored values in one of its weight tensors
    distinct_per_channel: int | None  # the most in one output channel
    reason: str | None  # why it stayed float in a quantized file
    milliseconds: float | None = None  # of the operation run alone, where it was timed


@dataclasses.dataclass(frozen=True)
class Inspection:
    """A LiteRT file, operation by operation."""

    file: str
    bytes: int
    scheme: str  # e.g. "float32", "int8", "dynamic range (int8 weights)"
    quantized: bool  # any weight or activation is an integer with a scale
    ops: tuple[Op, ...]
    bytes_by_dtype: dict[str, int]  # stored bytes of all constants, indices included
    notes: tuple[str, ...] = ()

    @property
    def float_ops(self) -> tuple[Op, ...]:
        """The operations that compute in float although the file is quantized, each with its reason.

        Conversions (QUANTIZE, DEQUANTIZE, ...) and arithmetic on indices are not among them.
        """
        return tuple(op for op in self.ops if op.reason is not None)

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many operations of each type there are, by arithmetic."""
        result: dict[str, Counter[str]] = {}
        for op in self.ops:
            result.setdefault(op.type, Counter())[op.arithmetic] += 1
        return {name: dict(counter) for name, counter in sorted(result.items())}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Inspection:
        """The inverse of `to_dict`, also after a way through JSON."""
        ops = tuple(_op(op) for op in values["ops"])
        return cls(**{**values, "ops": ops, "notes": tuple(values.get("notes", ()))})

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=200, no_color=True, highlight=False, record=True)
        console.print(inspection_table(self))
        lines = [line.rstrip() for line in console.export_text(styles=False).splitlines()]
        return "\n".join([*lines, *summary_lines(self)])


def inspection_table(inspection: Inspection) -> Any:
    """The operations as a rich table."""
    from rich import box
    from rich.table import Table

    table = Table(title=f"{inspection.file}: {inspection.scheme}", box=box.SIMPLE, title_justify="left")
    for name in ("#", "op", "output", "in > out", "arithmetic"):
        table.add_column(name, no_wrap=True)
    for name in ("bytes", "bits", "zeros", "values"):
        table.add_column(name, justify="right")
    many = any(op.subgraph for op in inspection.ops)
    for op in inspection.ops:
        number = f"{op.subgraph}.{op.index}" if many else str(op.index)
        ends = f"{_compact(op.input_dtypes)} > {_compact(op.output_dtypes)}"
        table.add_row(number, op.type, _shortened(op.output), ends, op.arithmetic, *_weight_cells(op))
    return table


def summary_lines(inspection: Inspection) -> list[str]:
    """Bytes by type, and which operations stayed float and why, as sentences."""
    parts = ", ".join(f"{size:,} {dtype}" for dtype, size in inspection.bytes_by_dtype.items())
    lines = [f"{inspection.bytes:,} bytes, of which constants: {parts or 'none'}."]
    if not inspection.quantized:
        lines.append(f"The file is not quantized: it computes in {inspection.scheme}.")
    elif not inspection.float_ops:
        lines.append("No operation stayed float.")
    else:
        lines.append(f"{len(inspection.float_ops)} operations stayed float:")
        lines += [f"  {reason}: {count} ({kinds})" for reason, count, kinds in reasons_grouped(inspection.float_ops)]
    return lines + [f"Note: {note}" for note in inspection.notes]


def reasons_grouped(ops: Sequence[Op]) -> list[tuple[str, int, str]]:
    """For each reason, how many operations have it, and their types; the most frequent first."""
    groups: dict[str, list[str]] = {}
    for op in ops:
        groups.setdefault(op.reason or "", []).append(op.type)
    ordered = sorted(groups.items(), key=lambda item: -len(item[1]))
    return [(reason, len(types), ", ".join(sorted(set(types)))) for reason, types in ordered]


def _weight_cells(op: Op) -> tuple[str, ...]:
    size = f"{op.weight_bytes:,}" if op.weight_bytes else ""
    if op.weight_bits is None or op.zero_fraction is None:
        return size, "", "", ""
    return size, str(op.weight_bits), f"{op.zero_fraction:.1%}", f"{op.distinct:,}"


def _compact(dtypes: tuple[str, ...]) -> str:
    return "/".join(dict.fromkeys(dtypes))


def _shortened(name: str, length: int = 44) -> str:
    # A fused operation has the names of all its parts; the last one is the layer's.
    name = name.rsplit(";", 1)[-1]
    return name if len(name) <= length else "..." + name[3 - length :]


def _op(values: dict[str, Any]) -> Op:
    inputs, outputs = tuple(values["input_dtypes"]), tuple(values["output_dtypes"])
    return Op(**{**values, "input_dtypes": inputs, "output_dtypes": outputs})
