"""The dependency graph: which channels of a model can be removed, and all that goes with each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import keras
import numpy as np

from tfbig.compression.structure import rules_attention, rules_layers, rules_pointwise, rules_shapes
from tfbig.compression.structure.atoms import Labels
from tfbig.compression.structure.flow import (
    RULES,
    Channels,
    Edit,
    Flow,
    NotUnderstood,
    Producer,
    fixed,
    is_plain,
)
from tfbig.compression.structure.graph import Call, Graph, describe, flatten, kind

RULE_FILES = (rules_attention, rules_layers, rules_pointwise, rules_shapes)
NOMINAL_SIZE = 224  # Stands for sizes that a model leaves open; only ratios are taken from it.


@dataclasses.dataclass(frozen=True, eq=False)
class Dependencies:
    """Channels by number: two weight slices whose numbers have the same root are removed together.

    Attributes:
        root: the root of every number; root 0 is never removed.
        axes: the numbers along (id of a variable or tensor, axis); an axis that is not here stays whole.
        producers: the weight axes that create channels.
        scales: the scale variables of batch normalization.
        edits: options of operations that follow from the widths, by id of the operation and name of the
            option.
        entries: the channels that enter each nested model, by id of the model.
        not_understood: operations whose inputs and outputs stay whole because no rule covers them.
        keepers: layers whose channels stay because each depends on all others.
    """

    graph: Graph
    root: np.ndarray
    axes: dict[tuple[int, int], np.ndarray]
    producers: tuple[Producer, ...]
    scales: tuple[keras.Variable, ...]
    edits: dict[int, dict[str, Edit]]
    entries: dict[int, tuple[tuple[Labels, ...], ...]]
    not_understood: tuple[str, ...]
    keepers: tuple[str, ...]


def analyse(model: keras.Model, *, exclude: Iterable[str] = ()) -> Dependencies:
    """Walks the flattened graph of `model` and ties together what can only be removed together.

    Args:
        exclude: names of layers whose weights and outputs stay whole.
    """
    flow, graph = Flow(), flatten(model, unknown=NOMINAL_SIZE)
    flow.tensors.update({id(x): fixed(x) for x in graph.inputs})
    excluded, strangers = set(exclude), dict[str, None]()
    for call in graph.calls:
        outputs = _outputs(call, flow, strangers)
        if call.operation.name in excluded:
            _freeze_all(call, flow, outputs)
        flow.tensors.update({id(x): channels for x, channels in zip(call.outputs, outputs, strict=True)})
    for tensor in graph.outputs:
        flow.only(flow.of(tensor))
    entries = _entries(graph, flow)
    axes = {key: labels for key, labels in flow.bound.items() if labels is not None}
    for tensor, channels in flow.tensors.items():
        axes.update({(tensor, axis): x for axis, x in enumerate(channels.axes) if x is not None})
    root = flow.atoms.find(np.arange(len(flow.atoms)))
    producers, scales = tuple(flow.producers), tuple(flow.scales)
    reasons = tuple(strangers), tuple(flow.keepers)
    return Dependencies(graph, root, axes, producers, scales, flow.edits, entries, *reasons)


def _outputs(call: Call, flow: Flow, strangers: dict[str, None]) -> list[Channels]:
    rule = RULES.get(kind(call.operation))
    if rule is not None and is_plain(call.operation):
        try:
            result = rule(call, flow)
            return [result] if isinstance(result, Channels) else list(result)
        except NotUnderstood:
            pass
    if _matters(call, flow):
        strangers[describe(call.operation)] = None
    outputs = [fixed(x) for x in call.outputs]
    _freeze_all(call, flow, outputs)
    return outputs


def _matters(call: Call, flow: Flow) -> bool:
    """Whether something could have been removed here: channels that come in, or the layer's own."""
    labels = [axis for x in call.inputs for axis in flow.of(x).axes if axis is not None]
    return any(flow.atoms.find(x).any() for x in labels) or any(len(v.shape) > 1 for v in _variables(call))


def _freeze_all(call: Call, flow: Flow, outputs: list[Channels]) -> None:
    for channels in [*(flow.of(x) for x in call.inputs), *outputs]:
        flow.only(channels)
    for variable in _variables(call):
        for axis in range(len(variable.shape)):
            flow.atoms.freeze(flow.bound.get((id(variable), axis)))


def _variables(call: Call) -> list[keras.Variable]:
    return call.operation.variables if isinstance(call.operation, keras.Layer) else []


def _entries(graph: Graph, flow: Flow) -> dict[int, tuple[tuple[Labels, ...], ...]]:
    """What enters each nested model, which must be of the same widths each time it is called."""
    entries: dict[int, tuple[tuple[Labels, ...], ...]] = {}
    for model, tensors in graph.entries:
        axes = tuple(flow.of(x).axes for x in tensors)
        if id(model) in entries:
            for first, second in zip(entries[id(model)], axes, strict=True):
                flow.unify(first, second)
        else:
            entries[id(model)] = axes
    return entries
