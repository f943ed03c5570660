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

from tfbig.compression.native.points import Plan, factor_of, name_of, plain_number
from tfbig.compression.native.steps import Graph, Step

SMALL = "a logarithm, a division or a root tells numbers apart that {bits} bits round to 0, so it is computed in float"
_POLES = {
    "Log", "Log2", "Log10", "Log1p", "Divide", "TrueDivide", "Reciprocal", "Rsqrt", "Sqrt", "log", "sqrt",
}  # fmt: skip
_DIVISIONS = ("Divide", "TrueDivide")
_ABSOLUTE = ("Absolute", "Abs", "abs")
_NOT_NEGATIVE = (*_ABSOLUTE, "Square", "Relu", "relu", "Exp", "exp", "exponential", "Sigmoid", "sigmoid")
# What goes element by element or sums up, and what only moves numbers.
_LIGHT = {
    "Add", "Subtract", "Multiply", "Square", "Power", "Absolute", "Abs", "abs", "Negative", "Sum", "Mean", "Max", "Min",
    "Maximum", "Minimum", "Clip", "Relu", "relu", "Exp", "exp", "exponential", "Sigmoid", "sigmoid", "Softmax",
    "softmax", "Cast", "Reshape", "Transpose", "ExpandDims", "Squeeze", "Where", *_POLES,
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

    Of these all that comes before the first layer with weights, as the front end of an audio model, and behind that
    what goes element by element or sums up.

    Args:
        kernels: ids of the variables that the file holds as integers: what computes with them stays so.
    """
    producer = {tensor: step for step in graph.steps for tensor in step.outputs}
    consumers: dict[int, list[Step]] = defaultdict(list)
    for step in graph.steps:
        for tensor in step.inputs:
            consumers[tensor].append(step)
    results = {id(x) for x in tree.flatten(graph.outputs)}
    weighted: set[int] = set()
    for step in graph.steps:
        before = any(id(producer[tensor]) in weighted for tensor in step.inputs if tensor in producer)
        if before or any(id(variable) in kernels for variable in graph.weights_of(step)):
            weighted.add(id(step))

    def of_integers(step: Step) -> bool:
        """Whether the file computes the step with integer weights, be it in the op of a step before it."""
        fused = [producer[tensor] for tensor in step.inputs if tensor in producer and tensor not in plan.scale_of]
        return any(id(variable) in kernels for variable in graph.weights_of(step)) or any(map(of_integers, fused))

    found: set[int] = set()
    for step in reversed(graph.steps):
        readers = [(tensor, reader) for tensor in step.outputs for reader in consumers[tensor]]
        serves = bool(readers) and not results.intersection(step.outputs)
        serves = serves and all(id(r) in found and not _is_dividend(tensor, r) for tensor, r in readers)
        goes_on = id(step) not in weighted or (name_of(step.operation) in _LIGHT and not of_integers(step))
        if _has_pole(step, producer) or (serves and goes_on):
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
    if name in _DIVISIONS:
        divisor = producer.get(id(_operand(step, 1)))
        return factor_of(step) is None and divisor is not None and not _is_far_from_zero(divisor, producer)
    source = producer.get(step.inputs[0])
    return source is None or not _is_far_from_zero(source, producer)


def _is_dividend(tensor: int, reader: Step) -> bool:
    return name_of(reader.operation) in _DIVISIONS and id(_operand(reader, 1)) != tensor


def _is_far_from_zero(step: Step, producer: dict[int, Step]) -> bool:
    """Whether a step gives no small number: 1 + |x|, 1 + x * x, or the sigmoid of |x|."""
    before = producer.get(step.inputs[0]) if step.inputs else None
    if before is None:
        return False
    name, kind = name_of(before.operation), name_of(step.operation)
    if kind.lower() == "sigmoid":
        return name in _ABSOLUTE
    square = name == "Multiply" and len(before.inputs) == 2 and before.inputs[0] == before.inputs[1]
    added = [plain_number(_operand(step, place)) or 0.0 for place in (0, 1)]
    return kind == "Add" and max(added) >= _SURELY_FAR and (square or name in _NOT_NEGATIVE)


def _operand(step: Step, place: int) -> Any:
    values = tree.flatten((step.arguments.args, step.arguments.kwargs))
    return values[place] if len(values) > place else None
