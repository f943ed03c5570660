"""Recomputation: less memory for more time, by computing stretches of a model again when their gradients are due."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tfbig.training.parts import Runner, apart, check_functional, run_by


@contextmanager
def recomputed(model: keras.Model, wanted: bool = True) -> Iterator[None]:
    """Trains `model` in little memory inside the block, with the same gradients.

    The graph is cut into about sqrt(n) stretches of its n layers, where few numbers cross. Of the forward pass only
    what crosses a cut is kept; the backward pass computes each stretch again. Dropout draws the same masks then, and
    moving averages move once. (`keras.RematScope` recomputes single layers, and keeps all that lies between them.)

    Raises:
        InvalidModel: `model` is not Functional, or a layer adds a loss of its own.

    Reference:
        Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174, section 4.
    """
    if not wanted:
        yield
        return
    check_functional(model, "recompute")
    stretches = _stretches(model)
    with run_by(model, lambda whole: _runner(model, stretches)):
        yield


class _Stretch:
    """Neighbouring nodes of the graph, with the tensors that enter and leave."""

    def __init__(self, nodes: list, entering: list, leaving: list):
        self.nodes, self.entering, self.leaving = nodes, entering, leaving
        self.layers = [node.operation for node in nodes if isinstance(node.operation, keras.Layer)]

    def __call__(self, values: dict[int, tf.Tensor], operation_fn: Callable) -> list:
        def run(inputs: list) -> list:
            known = dict(zip(map(id, self.entering), inputs, strict=True))
            for node in self.nodes:
                args, kwargs = node.arguments.fill_in(known)
                outputs = keras.tree.flatten(operation_fn(node.operation)(*args, **kwargs))
                known.update(zip(map(id, node.outputs), outputs, strict=True))
            return [known[id(tensor)] for tensor in self.leaving]

        return apart(run, [values[id(tensor)] for tensor in self.entering], self.layers, tf.recompute_grad)


def _runner(model: keras.Model, stretches: list[_Stretch]) -> Runner:
    def run(inputs: Any, operation_fn: Callable) -> Any:
        values = dict(zip(map(id, model.inputs), map(tf.convert_to_tensor, keras.tree.flatten(inputs)), strict=True))
        for stretch in stretches:
            leaving = stretch(values, operation_fn)
            values.update(zip(map(id, stretch.leaving), leaving, strict=True))
        return keras.tree.pack_sequence_as(model._outputs_struct, [values[id(tensor)] for tensor in model.outputs])

    return run


def _stretches(model: keras.Model) -> list[_Stretch]:
    depths = model._nodes_by_depth
    nodes = [n for depth in sorted(depths, reverse=True) for n in depths[depth] if n.operation and not n.is_input]
    last = {id(tensor): index for index, node in enumerate(nodes) for tensor in node.input_tensors}
    last |= {id(tensor): len(nodes) for tensor in model.outputs}
    alive, crossing = {id(tensor): tensor for tensor in model.inputs}, []
    for index, node in enumerate(nodes):
        alive |= {id(tensor): tensor for tensor in node.outputs}
        alive = {key: tensor for key, tensor in alive.items() if last.get(key, -1) > index}
        crossing.append(list(alive.values()))
    found, first, entering = [], 0, list(model.inputs)
    for cut in _cuts([sum(map(_size, tensors)) for tensors in crossing]):
        found.append(_Stretch(nodes[first : cut + 1], entering, crossing[cut]))
        first, entering = cut + 1, crossing[cut]
    return found


def _cuts(sizes: list[int]) -> list[int]:
    """Ends of about sqrt(n) stretches of similar length: in each window the place where the least crosses."""
    count = max(1, round(math.sqrt(len(sizes))))
    step = len(sizes) / count
    windows = [range(math.ceil((k - 0.5) * step), math.ceil((k + 0.5) * step)) for k in range(1, count)]
    best = {min(window, key=lambda index: sizes[index]) for window in windows if len(window)}
    return sorted({*best, len(sizes) - 1})


def _size(tensor: keras.KerasTensor) -> int:
    return math.prod(side or 1 for side in tensor.shape[1:])
