"""Forward passes through a quantized graph: one learns ranges, the other computes what the file will compute."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend import get_keras_mask, set_keras_mask

from tfbig.compression.native.graph import Step
from tfbig.compression.native.integer_steps import IntegerStep
from tfbig.compression.native.integers import NARROWEST, Grid, Leaky, Operand
from tfbig.compression.native.machine import straight_through
from tfbig.compression.native.points import Plan, Point, is_plain_relu, kind_of
from tfbig.compression.native.rounding import fake_quantize, fake_quantize_ties_away, round_constant

if TYPE_CHECKING:
    from tfbig.compression.native.quantizing import Quantizing


class Run:
    """One forward pass, which rounds at the points of the plan."""

    training: bool

    def __init__(self, machine: Quantizing):
        self.machine = machine
        self.plan: Plan = machine.plan
        self.given: dict[int, Any] = {}  # the inputs as they came, which float operations of the file read

    def begin(self, values: Sequence[Any]) -> list[Any]:
        """Takes one tensor for each input of the graph; returns them rounded."""
        symbols = self.machine.graph.inputs
        self.given = {id(symbol): value for symbol, value in zip(symbols, values, strict=True)}
        return [self.quantize(tensor, value) for tensor, value in self.given.items()]

    def step(self, step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Computes one step, its constants and its outputs rounded."""
        if id(step) in self.machine.floats:
            symbols = step.arguments.args, step.arguments.kwargs
            args, kwargs = keras.tree.map_structure(self.as_given, symbols, (args, kwargs))
        elif step.outputs[0] in self.plan.with_constants:
            args = tuple(map(self.constant, args, step.arguments.args))
        outputs = self.compute(step, args, kwargs)
        flat = [self.quantize(tensor, y) for tensor, y in zip(step.outputs, keras.tree.flatten(outputs), strict=True)]
        return keras.tree.pack_sequence_as(outputs, flat)

    def compute(self, step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
        """The outputs of one step before they are rounded."""
        return step.compute(args, kwargs, self.training)

    def as_given(self, symbol: Any, value: Any) -> Any:
        """The input of the model that a symbol stands for, not rounded; any other value as it is."""
        return self.given.get(id(symbol), value)

    def constant(self, value: Any, symbol: Any) -> Any:
        """Rounds a weight that is added or multiplied: the file holds it like an activation, in the range it has."""
        is_weight = not isinstance(symbol, keras.KerasTensor) or id(symbol) in self.machine.graph.weights
        if not is_weight or not isinstance(value, keras.Variable | np.ndarray | tf.Tensor):
            return value
        tensor = tf.convert_to_tensor(value.value if isinstance(value, keras.Variable) else value)
        if not tensor.dtype.is_floating:
            return value
        wide = tf.cast(tensor, tf.float32)
        return tf.cast(straight_through(wide, round_constant(wide, self.machine.activation_bits)), tensor.dtype)

    def quantize(self, tensor: int, x: Any) -> Any:
        point = self.plan.by_tensor.get(tensor)
        # The loss must see probabilities as they are: rounded ones are often 0, where the gradient ends.
        if point is None or (self.training and point.fixed and tensor in self.plan.outputs):
            return x
        rounded = self.round(tensor, point, x)  # In training, its range is learned by that too.
        if tensor in self.machine.unrounded:
            return x
        set_keras_mask(rounded, get_keras_mask(x))
        return rounded

    def round(self, tensor: int, point: Point, x: Any) -> Any:
        """Rounds `x` at the point of a tensor."""
        wide = tf.cast(x, tf.float32)
        rounded = self.rounded(point, wide, *point.fixed) if point.fixed else self.rounded_in_range(tensor, point, wide)
        return tf.cast(rounded, x.dtype)

    def rounded(self, point: Point, x: tf.Tensor, low: Any, high: Any) -> tf.Tensor:
        quantize = fake_quantize_ties_away if point.ties_away else fake_quantize
        return quantize(x, low, high, self.machine.activation_bits)

    def rounded_in_range(self, tensor: int, point: Point, x: tf.Tensor) -> tf.Tensor:
        raise NotImplementedError(f"{type(self).__name__} must know the range.")

    def finish(self) -> None:
        """Ends the pass."""


class TrainingRun(Run):
    """Takes note of the ranges it sees."""

    training = True

    def __init__(self, machine: Quantizing):
        super().__init__(machine)
        self.seen = dict(enumerate(tf.unstack(tf.convert_to_tensor(machine.ranges.value))))
        steps = machine.step.value
        self.weight = _weight_of_the_new(steps, machine.momentum)
        self.frozen = _is_frozen(steps, machine.total_steps.value, machine.freeze_after)

    def rounded_in_range(self, tensor: int, point: Point, x: tf.Tensor) -> tf.Tensor:
        return self.rounded(point, x, *point.bounds(*tf.unstack(self.observe(point, x))))

    def observe(self, point: Point, x: tf.Tensor) -> tf.Tensor:
        assert point.index is not None
        if point.observed:
            low = tf.minimum(tf.reduce_min(x), 0.0)
            high = tf.maximum(tf.reduce_max(x), low + NARROWEST)
            now = tf.stop_gradient(tf.stack([low, tf.maximum(high, 0.0)]))
            old = self.seen[point.index]
            self.seen[point.index] = tf.where(self.frozen, old, old + (now - old) * self.weight)
        return self.seen[point.index]

    def finish(self) -> None:
        if self.seen:
            self.machine.ranges.assign(tf.stack([self.seen[i] for i in range(len(self.seen))]))


class InferenceRun(Run):
    """Computes with the integers of the file, where activations have 8 bits."""

    training = False

    def __init__(self, machine: Quantizing):
        super().__init__(machine)
        self.ranges = tf.unstack(machine.final_ranges)
        self.grids: dict[Point, Grid] = {}
        self.ready = machine.step.value > 0  # Before, there are no ranges.
        self.exactly = machine.activation_bits == 8
        self.behind: dict[int, tf.Tensor] = {}  # what the file computes, by tensor, until that is reached
        self.multiples: set[int] = set()  # tensors that hold multiples of their scale, but maybe too large ones

    def rounded_in_range(self, tensor: int, point: Point, x: tf.Tensor) -> tf.Tensor:
        if tensor in self.multiples:
            return self.grid(point).clipped(x, self.ready)
        if self.exactly and not point.ties_away:
            nearest = self.grid(point).nearest(x, ties_up=not point.observed)
        else:
            nearest = self.rounded(point, x, *self.bounds(point))
        return tf.where(self.ready, nearest, x)

    def compute(self, step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
        if not self.exactly:
            return super().compute(step, args, kwargs)
        if kind_of(step) == "gathered" and id(step) not in self.machine.floats:
            args = keras.tree.map_structure(functools.partial(self.moved, step), args, step.arguments.args)
        return self.as_in_the_file(step, args, kwargs, super().compute(step, args, kwargs))

    def as_in_the_file(self, step: Step, args: tuple, kwargs: dict[str, Any], outputs: Any) -> Any:
        """The outputs as LiteRT's kernels compute them from integers, where they do."""
        tensor = step.outputs[0]
        linear, other = self.machine.linear.get(tensor), self.machine.integer.get(tensor)
        if linear:
            ends = self.grid(linear.source), self.grid(linear.end)
            y = tf.cast(outputs, tf.float32)
            self.behind[linear.complete] = linear.sums.outputs(y, *ends)
        elif other:
            operands = self.operands(other, keras.tree.flatten((args, kwargs)))
            self.behind[tensor] = other.rule.outputs(tf.cast(outputs, tf.float32), operands, self.grid(other.end))
        if tensor not in self.behind:
            [source, *_] = step.inputs or (None,)
            if source in self.multiples and source not in self.plan.scale_of and is_plain_relu(step):
                self.multiples.add(tensor)
            return outputs
        self.multiples.add(tensor)
        return tf.where(self.ready, tf.cast(self.behind.pop(tensor), outputs.dtype), outputs)

    def operands(self, step: IntegerStep, values: list[Any]) -> list[Operand]:
        found = []
        for position, source in step.operands:
            x = tf.cast(tf.convert_to_tensor(values[position]), tf.float32)
            found.append(Operand(x, self.grid(source) if source else Grid.of_constant(x)))
        return found

    def moved(self, step: Step, x: Any, symbol: Any) -> Any:
        """What is gathered, in the grid that it is gathered into."""
        source, end = self.plan.scale_of.get(id(symbol)), self.plan.scale_of.get(step.outputs[0])
        if source is None or end is None or source == end:
            return x
        wide = tf.cast(x, tf.float32)
        moved = Leaky().outputs(wide, [Operand(wide, self.grid(source))], self.grid(end))
        return tf.where(self.ready, tf.cast(moved, x.dtype), x)

    def grid(self, point: Point) -> Grid:
        if point not in self.grids:
            self.grids[point] = Grid.of(*(point.fixed or self.bounds(point)))
        return self.grids[point]

    def bounds(self, point: Point) -> tuple[Any, Any]:
        assert point.index is not None
        return point.bounds(*tf.unstack(self.ranges[point.index]))


def _weight_of_the_new(steps: tf.Tensor, momentum: float) -> tf.Tensor:
    # The plain mean of what was seen, until the moving average has enough to stand on.
    return tf.maximum(1.0 / (tf.cast(steps, tf.float32) + 1.0), 1.0 - momentum)


def _is_frozen(steps: tf.Tensor, total: tf.Tensor, freeze_after: int | float | None) -> tf.Tensor:
    if freeze_after is None:
        return tf.constant(False)
    if isinstance(freeze_after, int):
        return steps >= freeze_after
    return (total > 0) & (tf.cast(steps, tf.float32) >= freeze_after * tf.cast(total, tf.float32))
