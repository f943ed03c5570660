"""Ops of a float LiteRT file that stay float together, because the numbers between them fit no integer's range."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

from tfbig.compression.native import poles
from tfbig.exporters.tensor_ranges import FileGraph, Op, layer_names

_POLES = ("LOG", "DIV")
_WITH_WEIGHTS = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL", "GATHER", "EMBEDDING_LOOKUP",
)  # fmt: skip
# What goes element by element or sums up, and what only moves numbers.
_LIGHT = (
    "ADD", "SUB", "MUL", "SQUARE", "SQUARED_DIFFERENCE", "POW", "ABS", "NEG", "SUM", "MEAN", "REDUCE_MAX", "REDUCE_MIN",
    "MAXIMUM", "MINIMUM", "RELU", "EXP", "LOGISTIC", "SOFTMAX", "SQRT", "RSQRT", "CAST", "RESHAPE", "TRANSPOSE",
    "EXPAND_DIMS", "SQUEEZE", "SELECT", "SELECT_V2", *_POLES,
)  # fmt: skip
_FACTOR = 4  # a step of the scores that is a factor of e ** 4 behind a softmax


def float_regions(graph: FileGraph, bits: int, weighted: Collection[str]) -> dict[str, str]:
    """The reasons by the name of the op.

    Args:
        bits: of the activations.
        weighted: names of layers whose weights become integers.
    """
    small = dict.fromkeys(_before_poles(graph, frozenset(weighted)), poles.SMALL.format(bits=bits))
    return small | dict.fromkeys(_before_far_scores(graph, bits), poles.HIDDEN.format(bits=bits))


def _before_poles(graph: FileGraph, weighted: frozenset[str]) -> set[str]:
    """Logarithms and divisions, and what computes for them alone; see `poles.before_poles`."""
    readers: dict[str, list[Op]] = defaultdict(list)
    behind: set[str] = set()  # tensors that integer weights went into
    for op in graph.ops:
        if not behind.isdisjoint(op.reads) or (op.kind in _WITH_WEIGHTS and weighted & layer_names(op.name)):
            behind.update(op.makes)
        for name in op.reads:
            readers[name].append(op)
    found: set[str] = set()
    for op in reversed(graph.ops):
        served = [(name, reader) for name in op.makes for reader in readers[name]]
        serves = bool(served) and all(r.name in found and not _is_dividend(name, r) for name, r in served)
        if op.kind in _POLES or (serves and (behind.isdisjoint(op.makes) or op.kind in _LIGHT)):
            found.add(op.name)
    return found


def _is_dividend(tensor: str, reader: Op) -> bool:
    return reader.kind == "DIV" and reader.reads[-1] != tensor


def _before_far_scores(graph: FileGraph, bits: int) -> set[str]:
    """Softmaxes of scores so far apart that integers cannot tell most of them, and what leads there.

    It is what a mask of -1e9 does: all that is not hidden would be on one step.
    """
    made_by = {name: op for op in graph.ops for name in op.outputs}
    waiting = [op for op in graph.ops if op.kind == "SOFTMAX" and _far(op.inputs, graph, bits)]
    found: set[str] = set()
    while waiting:
        op = waiting.pop()
        if op.name not in found:
            found.add(op.name)
            waiting.extend(made_by[name] for name in _far(op.inputs, graph, bits) if name in made_by)
    return found


def _far(names: Sequence[str], graph: FileGraph, bits: int) -> list[str]:
    spans = {name: graph.ranges[name][1] - graph.ranges[name][0] for name in names if name in graph.ranges}
    return [name for name, span in spans.items() if span > _FACTOR * 2**bits]
