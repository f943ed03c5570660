"""The machine of `Quantize`: weights and activations rounded in the forward pass as the LiteRT file will round them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend import get_keras_mask, set_keras_mask

from tfbig.compression.native.graph import Step, bind, flatten
from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.machine import Machine, straight_through
from tfbig.compression.native.points import Plan, Point, plan

_NARROWEST = 1e-5  # A range of nothing would divide by zero; this is far below any activation that matters.


class Quantizing(Machine):
    """Runs the model's flat graph, rounding every tensor that LiteRT will hold as an integer.

    Args:
        model: the model, a copy; the machine takes the `activation=` off its layers.
        kernels: all weight tensors of the model.
        exempt: layers, by identity, whose weights and outputs stay float.
        weight_bits: 8 or 4; symmetric, one scale for each output channel.
        activation_bits: 8 (asymmetric) or 16 (symmetric); one scale for each tensor.
        momentum: weight of the past in the moving average of the ranges, in [0, 1).
        freeze_after: steps, or a share of the training, after which the ranges stay as they are; None for never.
    """

    replaces_call = True

    def __init__(
        self,
        model: keras.Model,
        kernels: Sequence[Kernel],
        *,
        exempt: frozenset[int],
        weight_bits: int,
        activation_bits: int,
        momentum: float,
        freeze_after: int | float | None,
        name: str = "quantize",
    ):
        super().__init__([k for k in kernels if id(k.layer) not in exempt], name)
        self.weight_bits, self.activation_bits = weight_bits, activation_bits
        self.momentum, self.freeze_after = momentum, freeze_after
        # Plain attributes, and no way back to the model: it owns the graph's layers, and saves them.
        object.__setattr__(self, "bind", functools.partial(bind, model))
        object.__setattr__(self, "graph", flatten(model))
        object.__setattr__(self, "plan", plan(self.graph))
        object.__setattr__(self, "exempt", exempt)
        object.__setattr__(self, "channel_axes", {id(k.variable): k.channel_axes for k in kernels})
        self.ranges = self.state("ranges", (max(self.plan.size, 1), 2), "float32", aggregation="mean")

    def transform(self, weights: list[tf.Tensor], training: bool) -> list[tf.Tensor]:
        rounded = [round_weights(w, k, self.weight_bits) for w, k in zip(weights, self.kernels, strict=True)]
        return [straight_through(w, r) if training else r for w, r in zip(weights, rounded, strict=True)]

    def call_model(self, args: tuple, kwargs: dict[str, Any], training: bool) -> Any:
        run = _Run(self, training)
        values = self.bind(args, kwargs)
        values = [run.quantize(id(x), value) for x, value in zip(self.graph.inputs, values, strict=True)]
        outputs = self.graph.run(values, run.step)
        run.remember()
        return outputs

    @property
    def calibrated(self) -> bool:
        """Whether the ranges have seen data."""
        return int(self.step.numpy()) > 0


class _Run:
    """One forward pass: rounds at the points, and in training takes note of the ranges it sees."""

    def __init__(self, machine: Quantizing, training: bool):
        self.machine, self.training = machine, training
        self.plan: Plan = machine.plan
        self.ranges = tf.convert_to_tensor(machine.ranges.value)
        self.seen = dict(enumerate(tf.unstack(self.ranges))) if training else {}
        steps = machine.step.value
        self.weight = _weight_of_the_new(steps, machine.momentum)
        self.frozen = _is_frozen(steps, machine.total_steps.value, machine.freeze_after)
        self.ready = steps > 0

    def step(self, step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
        outputs = step.operation(*args, **kwargs)
        if id(step.operation) in self.machine.exempt:
            return outputs
        flat = [self.quantize(tensor, y, step) for tensor, y in zip(step.outputs, keras.tree.flatten(outputs))]
        return keras.tree.pack_sequence_as(outputs, flat)

    def quantize(self, tensor: int, x: Any, step: Step | None = None) -> Any:
        if tensor in self.plan.inside_norm and step is not None:
            offset = tf.stop_gradient(tf.cast(norm_affine(step.operation)[1], x.dtype))
            x = self.round(self.plan.inside_norm[tensor], x - offset) + offset
        point = self.plan.by_tensor.get(tensor)
        # The loss must see probabilities as they are: rounded ones are often 0, where the gradient ends.
        if point is None or (self.training and point.fixed and tensor in self.plan.outputs):
            return x
        rounded = self.round(point, x)
        set_keras_mask(rounded, get_keras_mask(x))
        return rounded

    def round(self, point: Point, x: Any) -> Any:
        wide = tf.cast(x, tf.float32)
        if point.fixed:
            rounded = fake_quantize(wide, *point.fixed, self.machine.activation_bits)
        elif self.training:
            low, high = tf.unstack(self.observe(point, wide))
            rounded = fake_quantize(wide, low, high, self.machine.activation_bits)
        else:
            low, high = tf.unstack(self.ranges[point.index])
            rounded = tf.where(self.ready, fake_quantize(wide, low, high, self.machine.activation_bits), wide)
        return tf.cast(rounded, x.dtype)

    def observe(self, point: Point, x: tf.Tensor) -> tf.Tensor:
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


def round_weights(weight: tf.Tensor, kernel: Kernel, bits: int) -> tf.Tensor:
    """Rounds to `2 ** bits - 1` symmetric levels, one scale for each output channel: max |w| is the last level."""
    others = [axis for axis in range(len(kernel.shape)) if axis not in kernel.channel_axes]
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


def norm_affine(layer: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Scale and offset by which a BatchNormalization acts at inference: `y = x * scale + offset`."""
    scale = tf.math.rsqrt(tf.convert_to_tensor(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * tf.convert_to_tensor(layer.gamma)
    offset = -tf.convert_to_tensor(layer.moving_mean) * scale
    return scale, offset + tf.convert_to_tensor(layer.beta) if layer.center else offset


def _weight_of_the_new(steps: tf.Tensor, momentum: float) -> tf.Tensor:
    # The plain mean of what was seen, until the moving average has enough to stand on.
    return tf.maximum(1.0 / (tf.cast(steps, tf.float32) + 1.0), 1.0 - momentum)


def _is_frozen(steps: tf.Tensor, total: tf.Tensor, freeze_after: int | float | None) -> tf.Tensor:
    if freeze_after is None:
        return tf.constant(False)
    if isinstance(freeze_after, int):
        return steps >= freeze_after
    return (total > 0) & (tf.cast(steps, tf.float32) >= freeze_after * tf.cast(total, tf.float32))
