"""Channel rules for products of tensors: einsum, matmul, and the attention layers built on them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfbig.compression.structure.atoms import Labels
from tfbig.compression.structure.flow import Channels, Count, Flow, NotUnderstood, count_of, fixed, rule
from tfbig.compression.structure.graph import Call
from tfbig.compression.structure.rules_pointwise import activate, broadcast


@rule("EinsumDense")
def einsum_dense(call: Call, flow: Flow) -> Channels:
    layer, x = call.operation, flow.of(call.inputs[0])
    entering, weights, leaving = einsum_specs(layer.equation, len(x.axes))
    letters: dict[str, Labels] = dict(zip(entering, x.axes, strict=True))
    created = [letter for letter in weights if letter not in letters]
    for axis, letter in enumerate(weights):
        if letter in created:
            width = _product(
                layer.kernel.shape, [i for i, other in enumerate(weights) if other in created and i != axis]
            )
            letters[letter] = flow.new(layer, layer.kernel, axis, width=width)
        else:
            flow.bind(layer.kernel, axis, letters[letter])
    for letter in entering:
        if letter not in leaving and letter not in weights:
            flow.atoms.freeze(letters[letter])
    for axis, letter in enumerate(layer.bias_axes or ""):
        flow.bind(layer.bias, axis, letters[letter])
    axes = tuple(letters[letter] for letter in leaving)
    flow.edit(layer, "output_shape", axes, lambda count: _partial_shape(layer, axes, count))
    passing = any(letters[letter] is not None for letter in leaving if letter not in weights)
    return activate(flow, layer.activation, Channels(axes, zero=layer.bias is None or not passing))


@rule("ops.Matmul")
def matmul(call: Call, flow: Flow) -> Channels:
    a, b = _two_tensors(call)
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise NotUnderstood
    left, right = flow.of(a), flow.of(b)
    contract(flow, [(left, -1), (right, -2)])
    batch = broadcast(flow, [(a.shape[:-2], left.axes[:-2]), (b.shape[:-2], right.axes[:-2])])
    return Channels((*batch, left[-2], right[-1]), zero=_product_zero(left, right))


@rule("ops.Einsum")
def einsum(call: Call, flow: Flow) -> Channels:
    subscripts = call.operation.subscripts.replace(" ", "")
    if "." in subscripts or "->" not in subscripts or len(call.inputs) != len(call.args):
        raise NotUnderstood
    terms, leaving = subscripts.split("->")[0].split(","), subscripts.split("->")[1]
    places: dict[str, list[tuple[Channels, int]]] = {}
    for term, tensor in zip(terms, call.inputs, strict=True):
        for axis, letter in enumerate(term):
            places.setdefault(letter, []).append((flow.of(tensor), axis))
    for letter, found in places.items():
        if letter not in leaving:
            contract(flow, found)
        else:
            for channels, axis in found[1:]:
                flow.unify([found[0][0][found[0][1]]], [channels[axis]])
    axes = tuple(places[letter][0][0][places[letter][0][1]] for letter in leaving)
    return Channels(axes, zero=_product_zero(*(flow.of(x) for x in call.inputs)))


@rule("ops.DotProductAttention")
def dot_product_attention(call: Call, flow: Flow) -> Channels:
    """Heads go together; the size of keys stays, for the scale follows from it."""
    if len(call.inputs) != 3 or len({x.shape[2] for x in call.inputs}) > 1:
        raise NotUnderstood
    query, key, value = (flow.only(flow.of(x), 2, 3) for x in call.inputs)
    for channels in (query, key):
        flow.atoms.freeze(channels[3])
    heads = flow.atoms.merge(flow.atoms.merge(query[2], key[2]), value[2])
    return Channels((None, None, heads, value[3]), zero=value.zero)


@rule("Attention")
def attention(call: Call, flow: Flow) -> list[Channels]:
    if call.operation.score_mode != "dot" or len(call.inputs) > 3:
        raise NotUnderstood
    query, value, key = (flow.only(flow.of(x), -1) for x in (*call.inputs, call.inputs[1])[:3])
    contract(flow, [(query, -1), (key, -1)])
    return [value, *(fixed(x) for x in call.outputs[1:])]


@rule("MultiHeadAttention")
def multi_head_attention(call: Call, flow: Flow) -> list[Channels]:
    """Heads are the channels; the sizes inside a head stay, and so does the softmax's scale."""
    layer = call.operation
    query, key, value = attended(call)
    if layer._output_shape is not None and len(layer._output_shape) != 1:
        raise NotUnderstood
    heads = flow.new(layer, layer.query_dense.kernel, 1, width=layer.key_dim)
    _project(flow, layer.query_dense, query, heads)
    _project(flow, layer.key_dense, key, heads)
    _project(flow, layer.value_dense, value, heads)
    if getattr(layer, "_use_gate", False):
        _project(flow, layer._gate_dense, query, heads)
    _whole_under_mask(call, flow, heads, layer.num_heads)
    flow.edit(layer, "num_heads", [heads], count_of(heads))
    leaving = _project_back(flow, layer, layer.output_dense, heads)
    flow.edit(layer, "output_shape", [leaving], count_of(leaving))
    return _attention_outputs(call, flow, leaving, heads)


@rule("GroupedQueryAttention")
def grouped_query_attention(call: Call, flow: Flow) -> list[Channels]:
    """A head of keys and values goes with all the query heads that share it; the output's width stays."""
    layer = call.operation
    query, key, value = attended(call)
    repeats = layer.num_query_heads // layer.num_key_value_heads
    shared = flow.new(layer, layer._key_dense.kernel, 1, width=layer.head_dim)
    heads = None if shared is None else np.repeat(shared, repeats)
    _project(flow, layer._query_dense, query, heads)
    _project(flow, layer._key_dense, key, shared)
    _project(flow, layer._value_dense, value, shared)
    if getattr(layer, "use_gate", False):
        _project(flow, layer._gate_dense, query, heads)
    _whole_under_mask(call, flow, heads, layer.num_query_heads)
    flow.edit(layer, "num_query_heads", [heads], count_of(heads))
    flow.edit(layer, "num_key_value_heads", [shared], count_of(shared))
    flow.bind(layer._output_dense.kernel, 0, heads)
    flow.atoms.freeze(flow.of(query)[-1])  # The layer takes the output's width from the query.
    return _attention_outputs(call, flow, None, heads)


def contract(flow: Flow, places: Sequence[tuple[Channels, int]]) -> None:
    """Ties axes that a product sums over; unless a removed channel is zero there, they stay whole."""
    first, axis = places[0]
    for channels, other in places[1:]:
        flow.unify([first[axis]], [channels[other]])
    if not any(channels.zero for channels, _ in places):
        for channels, other in places:
            flow.atoms.freeze(channels[other])


def einsum_specs(equation: str, rank: int) -> tuple[str, str, str]:
    """The letters of an EinsumDense equation, an ellipsis written out for an input of this rank."""
    entering, weights, leaving = re.split(",|->", equation.replace(" ", ""))
    hidden = "ABCDEFGHIJKLMNOP"[: rank - len(entering.replace("...", ""))]
    return entering.replace("...", hidden), weights, leaving.replace("...", hidden)


def _two_tensors(call: Call) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    if len(call.inputs) != 2:
        raise NotUnderstood
    return call.inputs[0], call.inputs[1]


def _product_zero(*operands: Channels) -> bool:
    return all(channels.zero for channels in operands)


def _product(shape: tuple[int, ...], axes: list[int]) -> int:
    return int(np.prod([shape[axis] for axis in axes], dtype=np.int64))


def _partial_shape(layer: keras.Layer, axes: tuple[Labels, ...], count: Count) -> tuple[int | None, ...]:
    given = layer.partial_output_shape
    return tuple(
        length if labels is None or length is None else count(labels)
        for length, labels in zip(given, axes[-len(given) :], strict=True)
    )


def attended(call: Call) -> tuple[Any, Any, Any]:
    """Query, key and value of an attention call; without a key, the value serves as one."""
    named = dict(zip(("query", "value", "key"), call.args, strict=False)) | call.kwargs
    key = named.get("key")
    return named["query"], named["value"] if key is None else key, named["value"]


def _project(flow: Flow, dense: keras.Layer, tensor: keras.KerasTensor, heads: Labels) -> None:
    x = flow.only(flow.of(tensor), -1)
    flow.bind(dense.kernel, 0, x[-1])
    flow.bind(dense.kernel, 1, heads)
    flow.bind(dense.bias, 0, heads)


def _project_back(flow: Flow, layer: keras.Layer, dense: keras.Layer, heads: Labels) -> Labels:
    flow.bind(dense.kernel, 0, heads)
    leaving = flow.new(layer, dense.kernel, 2)
    flow.bind(dense.bias, 0, leaving)
    return leaving


def _whole_under_mask(call: Call, flow: Flow, heads: Labels, count: int) -> None:
    mask = call.kwargs.get("attention_mask")
    if mask is not None and len(np.shape(mask)) > 3 and count in np.shape(mask)[1:-2]:
        flow.atoms.freeze(heads)


def _attention_outputs(call: Call, flow: Flow, leaving: Labels, heads: Labels) -> list[Channels]:
    first = Channels((*(None,) * (len(call.outputs[0].shape) - 1), leaving))
    scores = [Channels((None, heads, *(None,) * (len(x.shape) - 2)), zero=False) for x in call.outputs[1:]]
    return [first, *scores]
