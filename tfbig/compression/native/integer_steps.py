"""Which steps of a quantized graph LiteRT computes with integers, and between which points."""

from __future__ import annotations

import dataclasses
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from keras import tree

from tfbig.compression.native import integers
from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.points import MATRIX, Plan, Point, is_leaky_relu, is_plain_relu, kind_of, name_of
from tfbig.compression.native.rounding import bits_of
from tfbig.compression.native.steps import Graph, Step

_MEANS = ("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D", "Mean")
_LEAKY, _HARD_SWISH = ("LeakyReLU", "LeakyRelu", "leaky_relu"), ("hard_swish", "hard_silu", "HardSilu", "HardSwish")
_DEFAULT_SLOPE = 0.2  # of the activation function


@dataclasses.dataclass(frozen=True)
class LinearStep:
    """A linear step, and where its sums become the integers of a tensor."""

    sums: integers.Sums
    source: Point
    end: Point
    complete: int  # the tensor behind bias and BatchNormalization


@dataclasses.dataclass(frozen=True)
class IntegerStep:
    """Another step; its operands are some of the values that it is called with, None being the point of a constant."""

    rule: integers.Rule
    operands: tuple[tuple[int, Point | None], ...]
    end: Point


def linear_steps(
    graph: Graph, plan: Plan, kernels: Mapping[int, Kernel], one_scale: frozenset[int], bits: int
) -> dict[int, LinearStep]:
    """By output, the linear steps whose sums are integers in the file.

    Args:
        kernels: the weights that the file holds as integers, by the id of their variable.
        one_scale: those of them, by id, all of whose channels share one scale.
        bits: of the weights, where LiteRT has the kernels.
    """
    chains = _Chains(graph, plan)
    found = {}
    for step in graph.steps:
        kernel = next((kernels[id(v)] for v in graph.weights_of(step) if id(v) in kernels), None)
        if kind_of(step) != "linear" or kernel is None or not step.inputs:
            continue
        tensor, later_bias, norm = chains.behind(step)
        source, end = plan.scale_of.get(step.inputs[0]), chains.end_of(tensor)
        channels = _channels(kernel, tuple(graph.tensors[tensor].shape))
        if source and end and channels:
            own_bias, shared = getattr(step.operation, "bias", None), id(kernel.variable) in one_scale
            sums = integers.Sums(kernel, own_bias, later_bias, norm, shared, channels, bits_of(kernel, bits))
            found[step.outputs[0]] = LinearStep(sums, source, end, tensor)
    return found


def _channels(kernel: Kernel, shape: tuple[int | None, ...]) -> tuple[int, ...] | None:
    """The last axes of an output of this shape that the kernel has channels for; one, where it counts two together."""
    axes = tuple(kernel.shape[axis] for axis in kernel.channel_axes)
    return next((sizes for sizes in (axes, (math.prod(axes),)) if shape[-len(sizes) :] == sizes), None)


def integer_steps(graph: Graph, plan: Plan, exempt: frozenset[int]) -> dict[int, IntegerStep]:
    """By output, the other steps that the file computes with integers."""
    chains, found = _Chains(graph, plan), {}
    for step in graph.steps:
        end = chains.end_of(step.outputs[0]) if step.outputs else None
        if end is None or id(step.operation) in exempt:
            continue
        if rule := _rule(graph, plan, step):
            values = list(enumerate(tree.flatten((step.arguments.args, step.arguments.kwargs))))
            values = values[:2] if rule.takes_constants else [(i, x) for i, x in values if id(x) in step.inputs]
            operands = tuple((i, plan.scale_of.get(id(x))) for i, x in values)
            if all(source or id(x) not in step.inputs for (_, x), (_, source) in zip(values, operands, strict=True)):
                found[step.outputs[0]] = IntegerStep(rule, operands, end)
    return found


def _rule(graph: Graph, plan: Plan, step: Step) -> integers.Rule | None:
    name, kind = name_of(step.operation), kind_of(step)
    if kind == "norm":
        return integers.Affine(step.operation) if step.outputs[0] not in plan.folded else None
    if name in _MEANS and len(step.inputs) == 1:  # without a mask
        before, after = (graph.tensors[tensor].shape for tensor in (step.inputs[0], step.outputs[0]))
        known = None not in before[1:] and before[:1] == after[:1]
        return integers.Mean(math.prod(before[1:]) // math.prod(after[1:])) if known else None
    if name in _LEAKY or is_leaky_relu(step):
        return integers.Leaky(float(getattr(step.operation, "negative_slope", _DEFAULT_SLOPE)))
    if is_plain_relu(step) and step.inputs[0] in plan.scale_of:
        return integers.ReLU()
    if name in _HARD_SWISH:
        return integers.HardSwish()
    if name in MATRIX and len(step.inputs) == 2:
        return integers.MatrixProduct()
    if step.outputs[0] not in plan.with_constants or len(tree.flatten(step.arguments.args)) != 2:
        return None
    return integers.Product() if name == "Multiply" else integers.Addition(-1 if name == "Subtract" else 1)


class _Chains:
    """What LiteRT computes together with a step."""

    def __init__(self, graph: Graph, plan: Plan):
        self.graph, self.plan = graph, plan
        self.folded_into = {id(step): tensor for tensor, step in plan.folded.items()}
        self.producer = {tensor: step for step in graph.steps for tensor in step.outputs}
        self.consumers: dict[int, list[Step]] = defaultdict(list)
        for step in graph.steps:
            for tensor in step.inputs:
                self.consumers[tensor].append(step)

    def behind(self, step: Step) -> tuple[int, Any, Any]:
        """Of a linear step: the tensor behind bias and BatchNormalization, the bias that is added, and that layer."""
        last, bias = step, None
        after = self.consumers[step.outputs[0]]
        if step.outputs[0] not in self.plan.scale_of and len(after) == 1 and kind_of(after[0]) == "bias":
            last = after[0]
            bias = next(x for x in tree.flatten(last.arguments.args) if id(x) not in last.inputs)
            bias = self.graph.weights.get(id(bias), bias)
        tensor = self.folded_into.get(id(last), last.outputs[0])
        norm = self.producer[tensor].operation if tensor != last.outputs[0] else None
        return tensor, bias, norm

    def end_of(self, tensor: int) -> Point | None:
        """Where the tensor is rounded, be it behind a ReLU."""
        steps = self.consumers[tensor]
        if tensor not in self.plan.scale_of and steps and kind_of(steps[0]) == "relu":
            tensor = steps[0].outputs[0]
        return self.plan.scale_of.get(tensor)
