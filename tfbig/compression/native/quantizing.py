"""The machine of `Quantize`: weights and activations rounded in the forward pass as the LiteRT file will round them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend import get_keras_mask, set_keras_mask

from tfbig.compression.native.biases import Bias, biases
from tfbig.compression.native.graph import Graph, Step, bind, flatten
from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.machine import Machine, straight_through
from tfbig.compression.native.points import Plan, Point, kind_of, plan
from tfbig.compression.native.tracing import Untraceable

_NARROWEST = 1e-5  # A range of nothing would divide by zero; this is far below any activation that matters.
_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)
_PILES_UP = "the model is recurrent, and rounding errors of 8 bits would pile up from step to step"


class Quantizing(Machine):
    """Runs the model's flat graph, rounding every tensor that LiteRT will hold as an integer.

    A model with recurrent layers, or with a `call` that is no graph of Keras operations, gets its weights rounded only,
    and keeps its own `call`; `graph` is None then, and `weights_only` the reason.

    Args:
        model: the model, a copy; the machine takes the `activation=` off its layers.
        kernels: all weight tensors of the model.
        exempt: layers, by identity, whose weights and computation stay float.
        one_scale: weight tensors, by identity, all of whose channels share one scale.
        weight_bits: 8 or 4; symmetric, one scale for each output channel.
        activation_bits: 8 (asymmetric) or 16 (symmetric); one scale for each tensor.
        momentum: weight of the past in the moving average of the ranges, in [0, 1).
        freeze_after: steps, or a share of the training, after which the ranges stay as they are; None for never.
    """

    def __init__(
        self,
        model: keras.Model,
        kernels: Sequence[Kernel],
        *,
        exempt: frozenset[int],
        one_scale: frozenset[int] = frozenset(),
        weight_bits: int,
        activation_bits: int,
        momentum: float,
        freeze_after: int | float | None,
        name: str = "quantize",
    ):
        graph, reason = _flat_graph(model)
        operands = _operands(graph) if graph else set()
        chosen = [k for k in kernels if id(k.layer) not in exempt and id(k.variable) not in operands]
        super().__init__(chosen, name)
        self.weight_bits, self.activation_bits = weight_bits, activation_bits
        self.momentum, self.freeze_after = momentum, freeze_after
        self.replaces_call = graph is not None
        # Plain attributes, and no way back to the model: it owns the graph's layers, and saves them.
        object.__setattr__(self, "bind", functools.partial(bind, model))
        object.__setattr__(self, "graph", graph)
        object.__setattr__(self, "weights_only", reason)
        object.__setattr__(self, "plan", plan(graph) if graph else None)
        object.__setattr__(self, "exempt", exempt)
        object.__setattr__(self, "one_scale", one_scale)
        integers = {id(k.variable): k for k in chosen}
        object.__setattr__(self, "biases", biases(graph, self.plan, integers, one_scale) if graph else {})
        object.__setattr__(self, "channel_axes", {id(k.variable): k.channel_axes for k in kernels})
        rows = max(self.plan.size, 1) if graph else 1
        self.ranges = self.state("ranges", (rows, 2), "float32", aggregation="mean")

    def transform(self, weights: list[tf.Tensor], training: bool) -> list[tf.Tensor]:
        rounded = [
            round_weights(w, k, self.weight_bits, one_scale=id(k.variable) in self.one_scale)
            for w, k in zip(weights, self.kernels, strict=True)
        ]
        return [straight_through(w, r) if training else r for w, r in zip(weights, rounded, strict=True)]

    def call_model(self, args: tuple, kwargs: dict[str, Any], training: bool) -> Any:
        run = _Run(self, training)
        values = self.bind(args, kwargs)
        values = [run.quantize(id(x), value) for x, value in zip(self.graph.inputs, values, strict=True)]
        outputs = self.graph.run(values, run.step)
        run.remember()
        return outputs

    def tensors(self, values: Sequence[Any]) -> dict[int, Any]:
        """Every tensor of the graph at inference, by its id, rounded as the file rounds it."""
        run = _Run(self, training=False)
        found: dict[int, Any] = {}

        def call(step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
            outputs = run.step(step, args, kwargs)
            found.update(zip(step.outputs, keras.tree.flatten(outputs), strict=True))
            return outputs

        rounded = [run.quantize(id(x), value) for x, value in zip(self.graph.inputs, values, strict=True)]
        self.graph.run(rounded, call)
        return found

    @property
    def final_ranges(self) -> tf.Tensor:
        """The ranges `(rows, 2)` at inference and in the file: those that training has seen, off ties."""
        return off_ties(tf.convert_to_tensor(self.ranges.value))

    @property
    def calibrated(self) -> bool:
        """Whether the ranges have seen data."""
        return int(self.step.numpy()) > 0


class _Run:
    """One forward pass: rounds at the points, and in training takes note of the ranges it sees."""

    def __init__(self, machine: Quantizing, training: bool):
        self.machine, self.training = machine, training
        self.plan: Plan = machine.plan
        self.ranges = tf.convert_to_tensor(machine.ranges.value) if training else machine.final_ranges
        self.seen = dict(enumerate(tf.unstack(self.ranges))) if training else {}
        steps = machine.step.value
        self.weight = _weight_of_the_new(steps, machine.momentum)
        self.frozen = _is_frozen(steps, machine.total_steps.value, machine.freeze_after)
        self.ready = steps > 0

    def step(self, step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
        if step.outputs[0] in self.plan.with_constants:
            args = tuple(map(self.constant, args, step.arguments.args))
        outputs = step.compute(args, kwargs, self.training)
        if not self.training and self.machine.activation_bits == 8 and step.outputs[0] in self.machine.biases:
            outputs = outputs + tf.cast(self.rounding(self.machine.biases[step.outputs[0]]), outputs.dtype)
        flat = [self.quantize(tensor, y) for tensor, y in zip(step.outputs, keras.tree.flatten(outputs), strict=True)]
        return keras.tree.pack_sequence_as(outputs, flat)

    def rounding(self, bias: Bias) -> tf.Tensor:
        """What the file's bias has more than the model's."""
        low, high = bias.source.fixed or bias.source.bounds(*tf.unstack(self.ranges[bias.source.index]))
        return tf.where(self.ready, bias.rounding(low, high, self.machine.weight_bits), 0.0)

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
        rounded = self.round(point, x)
        set_keras_mask(rounded, get_keras_mask(x))
        return rounded

    def round(self, point: Point, x: Any) -> Any:
        wide = tf.cast(x, tf.float32)
        bits = self.machine.activation_bits
        quantize = fake_quantize_ties_away if point.ties_away else fake_quantize
        if point.fixed:
            rounded = quantize(wide, *point.fixed, bits)
        elif self.training:
            rounded = quantize(wide, *point.bounds(*tf.unstack(self.observe(point, wide))), bits)
        else:
            bounds = point.bounds(*tf.unstack(self.ranges[point.index]))
            rounded = tf.where(self.ready, quantize(wide, *bounds, bits), wide)
        return tf.cast(rounded, x.dtype)

    def observe(self, point: Point, x: tf.Tensor) -> tf.Tensor:
        assert point.index is not None
        if point.observed:
            low = tf.minimum(tf.reduce_min(x), 0.0)
            high = tf.maximum(tf.reduce_max(x), low + _NARROWEST)
            now = tf.stop_gradient(tf.stack([low, tf.maximum(high, 0.0)]))
            old = self.seen[point.index]
            self.seen[point.index] = tf.where(self.frozen, old, old + (now - old) * self.weight)
        return self.seen[point.index]

    def remember(self) -> None:
        if self.training and self.seen:
            self.machine.ranges.assign(tf.stack([self.seen[i] for i in range(len(self.seen))]))


def is_recurrent(model: keras.Model) -> bool:
    """Whether the model has layers that compute step by step."""
    return any(isinstance(layer, _RECURRENT) for layer in model._flatten_layers())


def _flat_graph(model: keras.Model) -> tuple[Graph | None, str | None]:
    if is_recurrent(model):
        return None, _PILES_UP
    try:
        return flatten(model), None
    except Untraceable as error:
        reason = f"the call of '{model.name}' ({type(model).__name__}) is no graph of Keras operations: {error}"
        warnings.warn(
            f"Only the weights of `model` are quantized, its activations stay float: {reason} For a full-integer file "
            "write the call with keras.ops and Keras layers, and without branching on values or on `training`.",
            stacklevel=2,
        )
        return None, reason


def round_weights(weight: tf.Tensor, kernel: Kernel, bits: int, *, one_scale: bool = False) -> tf.Tensor:
    """Rounds to `2 ** bits - 1` symmetric levels, one scale for each output channel: max |w| is the last level.

    With `one_scale` all channels have that of the largest.
    An embedding is a table that rows are taken from, which LiteRT holds like an activation: 256 levels for all of it.
    """
    if kernel.attribute == "embeddings":
        return round_constant(weight, 8)
    channels = () if one_scale else kernel.channel_axes
    others = [axis for axis in range(len(kernel.shape)) if axis not in channels]
    largest = 2 ** (bits - 1) - 1
    scale = tf.reduce_max(tf.abs(weight), axis=others, keepdims=True) / largest
    return tf.round(tf.math.divide_no_nan(weight, scale)) * scale


def fake_quantize(x: tf.Tensor, low: Any, high: Any, bits: int) -> tf.Tensor:
    """Rounds `x` to the integers of a range; the gradient passes inside the range only.

    At 16 bits the range is symmetric, as LiteRT's 16x8 kernels want it; at 8 bits zero is one of the levels.
    """
    if bits == 16:
        bound = tf.maximum(tf.abs(low), tf.abs(high))
        low, high = -bound * 32768 / 32767, bound
    return tf.quantization.fake_quant_with_min_max_vars(x, low, high, num_bits=bits)


def off_ties(ranges: tf.Tensor) -> tf.Tensor:
    """Widens ranges `(rows, 2)` that have 0 half-way between two of their 256 levels, by less than one level in 64.

    Pixels scaled to [-1, 1] all lie half-way there. Each runtime rounds ties in its own way, and half a level, the
    largest error there is, would be the error of every pixel.
    """
    low, high = ranges[:, 0], ranges[:, 1]
    zero = 255.0 * tf.math.divide_no_nan(-low, high - low)
    below = tf.floor(zero)
    is_tie = (tf.abs(zero - below - 0.5) < 0.01) & (below >= 64)
    return tf.stack([low, tf.where(is_tie, low - 255.0 * tf.math.divide_no_nan(low, below), high)], axis=1)


def fake_quantize_ties_away(x: tf.Tensor, low: Any, high: Any, bits: int) -> tf.Tensor:
    """The same, but what lies between two integers goes to the one farther from the integer 0."""

    def away(level: tf.Tensor) -> tf.Tensor:
        # The mean of integers is a tie but for the last bits of a float.
        return tf.sign(level) * tf.floor(tf.abs(level) + 0.501)

    return straight_through(x, _rounded(x, low, high, bits, away))


def round_constant(x: tf.Tensor, bits: int) -> tf.Tensor:
    """Rounds to the integers of the range that `x` has; a converter can compute it once and for all."""
    low, high = tf.minimum(tf.reduce_min(x), 0.0), tf.maximum(tf.reduce_max(x), 0.0)
    return _rounded(x, low, tf.maximum(high, low + _NARROWEST), bits, tf.round)


def _rounded(x: tf.Tensor, low: Any, high: Any, bits: int, to_integer: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    smallest, largest = float(-(2 ** (bits - 1))), float(2 ** (bits - 1) - 1)
    if bits == 16:
        bound = tf.maximum(tf.abs(low), tf.abs(high))
        low, high = -bound * 32768 / 32767, bound
    scale = (high - low) / (largest - smallest)
    zero_point = tf.round(smallest - low / scale)
    level = to_integer(x / scale + zero_point)
    return (tf.clip_by_value(level, smallest, largest) - zero_point) * scale


def _operands(graph: Graph) -> set[int]:
    """The variables that are added to activations or multiplied with them, element by element."""
    found: set[int] = set()
    for step in graph.steps:
        if kind_of(step) in ("arithmetic", "bias"):
            for value in keras.tree.flatten((step.arguments.args, step.arguments.kwargs)):
                variable = graph.weights.get(id(value), value)
                if isinstance(variable, keras.Variable):
                    found.add(id(variable))
    return found


def _weight_of_the_new(steps: tf.Tensor, momentum: float) -> tf.Tensor:
    # The plain mean of what was seen, until the moving average has enough to stand on.
    return tf.maximum(1.0 / (tf.cast(steps, tf.float32) + 1.0), 1.0 - momentum)


def _is_frozen(steps: tf.Tensor, total: tf.Tensor, freeze_after: int | float | None) -> tf.Tensor:
    if freeze_after is None:
        return tf.constant(False)
    if isinstance(freeze_after, int):
        return steps >= freeze_after
    return (total > 0) & (tf.cast(steps, tf.float32) >= freeze_after * tf.cast(total, tf.float32))
