"""Steps that stay float because integers of one range would lose what they tell apart.

Cut into 256 steps, what is small beside the largest value is 0, of which a logarithm makes minus infinity: the power
of a sound is such a value, most of which lies in the first of these steps. And beside the -1e9 that hides some scores
from a softmax all others are one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from tfbig.compression.native.points import Plan, factor_of, name_of
from tfbig.compression.native.steps import Graph, Step

SMALL = "a logarithm, a division or a root tells numbers apart that {bits} bits round to 0, so it is computed in float"
_POLES = {
    "Log", "Log2", "Log10", "Log1p", "Divide", "TrueDivide", "Reciprocal", "Rsqrt", "Sqrt", "log", "sqrt",
}  # fmt: skip
HIDDEN = "scores are masked by numbers so large that {bits} bits could not tell the others apart"
_SURELY_FAR = 0.5  # from 0: a number that steps of 1/256 cannot round to it
_HIDES = 1e4  # a number at least as large as this, added to a score, is there to hide it
_HANDS_ON = ("Add", "Subtract", "Where", "Cast", "Reshape", "ExpandDims", "Multiply")


def with_far_masks(graph: Graph) -> frozenset[int]:
    """The operations, by id, that mask scores by numbers such as -1e9, and the softmaxes behind them."""
    producer = {tensor: step for step in graph.steps for tensor in step.outputs}
    softmaxes = [step for step in graph.steps if name_of(step.operation).lower() == "softmax" and step.inputs]
    chains = [[step, *_to_far_mask(step.inputs[0], producer)] for step in softmaxes]
    return frozenset(id(step.operation) for chain in chains if len(chain) > 1 for step in chain)


def before_poles(graph: Graph, plan: Plan, kernels: Collection[int]) -> frozenset[int]:
    """The operations, by id, that are a logarithm, a division or a root, and those that compute for them alone.

    Args:
        kernels: ids of the variables that the file holds as integers: what computes with them stays so.
    """
    producer = {tensor: step for step in graph.steps for tensor in step.outputs}
    consumers: dict[int, list[Step]] = defaultdict(list)
    for step in graph.steps:
        for tensor in step.inputs:
            consumers[tensor].append(step)
    results = {id(x) for x in tree.flatten(graph.outputs)}
    found: set[int] = set()

    def of_integers(step: Step) -> bool:
        """Whether the file computes the step with integer weights, be it in the op of a step before it."""
        fused = [producer[tensor] for tensor in step.inputs if tensor in producer and tensor not in plan.scale_of]
        return any(id(variable) in kernels for variable in graph.weights_of(step)) or any(map(of_integers, fused))

    for step in reversed(graph.steps):
        behind = [after for tensor in step.outputs for after in consumers[tensor]]
        serves = bool(behind) and not results.intersection(step.outputs) and all(id(after) in found for after in behind)
        if _has_pole(step, producer) or (serves and not of_integers(step)):
            found.add(id(step))
    return frozenset(id(step.operation) for step in graph.steps if id(step) in found)


def _to_far_mask(tensor: int, producer: dict[int, Step]) -> list[Step]:
    """The steps between a tensor and a mask of numbers such as -1e9 that goes into it; none if none does."""
    step = producer.get(tensor)
    if step is None or name_of(step.operation) not in _HANDS_ON:
        return []
    if _is_far(step):
        return [step]
    before = [other for source in step.inputs for other in _to_far_mask(source, producer)]
    return [step, *before] if before else []


def _is_far(step: Step) -> bool:
    """Whether a step brings in a number that hides what it is added to, or multiplies with one."""
    factor = factor_of(step)
    if factor is not None:
        return abs(factor) >= _HIDES
    values = tree.flatten((step.arguments.args, step.arguments.kwargs))
    numbers = [np.asarray(x) for x in values if isinstance(x, int | float | np.ndarray | np.generic | tf.Tensor)]
    return any(x.dtype.kind == "f" and x.size > 0 and x.min() <= -_HIDES for x in numbers)


def _has_pole(step: Step, producer: dict[int, Step]) -> bool:
    name = name_of(step.operation)
    if name not in _POLES or not step.inputs:
        return False
    if name in ("Divide", "TrueDivide"):
        divisor = _operand(step, 1)
        return factor_of(step) is None and id(divisor) in producer
    source = producer.get(step.inputs[0])
    return source is None or not _is_far_from_zero(source, producer)


def _is_far_from_zero(step: Step, producer: dict[int, Step]) -> bool:
    """Whether a step gives no small number: 1 + |x|, or the sigmoid of |x|."""
    before = producer.get(step.inputs[0]) if step.inputs else None
    if before is None or name_of(before.operation) not in ("Absolute", "Abs", "abs"):
        return False
    added = _operand(step, 1)
    far = isinstance(added, int | float) and added >= _SURELY_FAR
    return name_of(step.operation).lower() == "sigmoid" or (name_of(step.operation) == "Add" and far)


def _operand(step: Step, place: int) -> Any:
    values = tree.flatten((step.arguments.args, step.arguments.kwargs))
    return values[place] if len(values) > place else None
