"""A model as its LiteRT file will compute it: in float, BatchNormalization folded into the layers before it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.compression.native.affine import TOO_COARSE, as_convolution, is_too_coarse, scale_and_offset
from tfbig.compression.native.graph import Step
from tfbig.compression.native.points import FLOAT_BY_CHOICE, Point, kind_of
from tfbig.compression.native.precision import in_float32, is_cast_to_half
from tfbig.compression.native.prepared import Prepared, WeightsSeenThrough
from tfbig.compression.native.quantizing import Quantizing

Record = Callable[[int, Any], None]


def quantizing_machine(model: keras.Model) -> Quantizing | None:
    """The model's quantization machine, if it was prepared with `Quantize`."""
    machines = model.machines if isinstance(model, Prepared) else []
    return next((m for m in machines if isinstance(m, Quantizing)), None)


def folded_outputs(model: Prepared, values: list[Any], record: Record | None = None) -> Any:
    """The outputs of a model prepared with `Quantize`, its activations not rounded.

    Args:
        values: one tensor for each input of the machine's graph.
        record: called with each tensor of the graph, by its id, and its value.
    """
    machine = quantizing_machine(model)
    assert machine is not None
    with _at_inference(model, machine):
        run = _FoldedRun(machine, record or (lambda tensor, value: None))
        for symbol, value in zip(machine.graph.inputs, values, strict=True):
            run.record(id(symbol), value)
        return machine.graph.run(values, run.step)


def integer_outputs(model: Prepared, values: list[Any]) -> Any:
    """The outputs of a model prepared with `Quantize`, from the integers of its file.

    Args:
        values: one tensor for each input of the machine's graph.
    """
    machine = quantizing_machine(model)
    assert machine is not None
    with _at_inference(model, machine):
        return machine.outputs(values, training=False)


@contextmanager
def _at_inference(model: Prepared, machine: Quantizing) -> Iterator[None]:
    steps = [step.operation for step in machine.graph.steps if isinstance(step.operation, keras.layers.Layer)]
    with in_float32([*model._flatten_layers(), *steps]), WeightsSeenThrough(model.machines, training=False):
        yield


def ranges_at_points(model: Prepared, values: list[Any]) -> list[tuple[np.ndarray, tuple[float, float], str]]:
    """For each tensor that is quantized: its value for `values`, the range it was trained with, and its scope."""
    machine = quantizing_machine(model)
    assert machine is not None
    learned = machine.final_ranges.numpy()
    scopes = {tensor: scope_of(step) for step in machine.graph.steps for tensor in step.outputs}
    found: list[tuple[np.ndarray, tuple[float, float], str]] = []

    def record(tensor: int, value: Any) -> None:
        point: Point | None = machine.plan.scale_of.get(tensor)
        if point is not None:
            low, high = point.fixed or point.bounds(*learned[point.index])
            found.append((np.asarray(value, "float32"), (float(low), float(high)), scopes.get(tensor, "")))

    folded_outputs(model, values, record)
    return found


def weight_ranges(model: Prepared) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each weight tensor of the file: the largest weight of each channel, and that of the channel's range.

    They are the same unless all channels have one scale. Where BatchNormalization is folded into a tensor, channel by
    channel, so is the scale: the integers are the same.
    """
    machine = quantizing_machine(model)
    assert machine is not None
    norms, found = _scales_by_step(machine), []
    kernels = {id(kernel.variable): kernel for kernel in machine.kernels}
    with WeightsSeenThrough(model.machines, training=False):
        for step in machine.graph.steps:
            if kind_of(step) == "norm" and step.outputs[0] not in machine.plan.folded:
                alone = np.abs(np.asarray(scale_and_offset(step.operation)[0])).ravel()
                found.append((alone, alone))
            for kernel in [kernels[id(v)] for v in machine.graph.weights_of(step) if id(v) in kernels]:
                weight = np.abs(np.asarray(kernel.variable.value))
                others = tuple(axis for axis in range(weight.ndim) if axis not in kernel.channel_axes)
                by_channel = weight.max(axis=others).ravel()
                one_scale = id(kernel.variable) in machine.one_scale
                widest = np.full_like(by_channel, weight.max()) if one_scale else by_channel
                factor = np.abs(_factor(norms.get(id(step)), by_channel))
                found.append((by_channel * factor, widest * factor))
    return found


def _factor(norm: Any, like: np.ndarray) -> np.ndarray:
    return np.ones_like(like) if norm is None else np.asarray(scale_and_offset(norm)[0]).ravel()


def float_layers(model: Prepared) -> dict[str, str]:
    """The scopes of the file's ops that stay float by choice, and the reason."""
    machine = quantizing_machine(model)
    assert machine is not None
    reasons = {scope_of(step): _why_float(step, machine) for step in machine.graph.steps}
    return {scope: reason for scope, reason in reasons.items() if reason}


def _why_float(step: Step, machine: Quantizing) -> str | None:
    kind = type(step.operation).__name__
    if reason := machine.stay_float.get(id(step.operation)):
        return reason.format(bits=machine.activation_bits)
    if id(step.operation) in machine.exempt:
        if is_too_coarse(step.operation, machine.activation_bits):
            return TOO_COARSE
        return f"the layer '{step.name}' was named in Quantize(exempt=...)"
    if kind in FLOAT_BY_CHOICE:
        return (
            f"part of the {kind} '{step.name}': 8 bits are too coarse for the variance of a sample and one over "
            "its root, so it is computed in float"
        )
    return None


def whole_layers(model: Prepared) -> dict[str, str]:
    """The scopes of layers that are one step here and several ops in the file, and what there is to say about each."""
    machine = quantizing_machine(model)
    assert machine is not None
    found = {}
    for step in machine.graph.steps:
        if isinstance(step.operation, keras.layers.Layer) and kind_of(step) == "other":
            why = machine.graph.whole.get(id(step.operation))
            found[scope_of(step)] = (
                f"it lies inside the {type(step.operation).__name__} '{step.name}', which is computed as a whole"
                f"{f': {why}' if why else ''}"
            )
    return found


def scope_of(step: Step) -> str:
    """The name under which the ops of a step stand in the file."""
    return re.sub(r"[^\w./>-]", "_", step.name)


class _FoldedRun:
    """Runs the flat graph with the scales of BatchNormalization moved into the weights before it."""

    def __init__(self, machine: Quantizing, record: Record):
        self.machine, self.plan, self.record = machine, machine.plan, record
        self.scale_into = _scales_by_step(machine)

    def step(self, step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
        with tf.name_scope(scope_of(step) + "/"):
            outputs = self.compute(step, args, kwargs)
        for tensor, value in zip(step.outputs, keras.tree.flatten(outputs), strict=True):
            self.record(tensor, value)
        return outputs

    def compute(self, step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
        if is_cast_to_half(step.operation):
            return args[0]
        if step.outputs[0] in self.plan.folded:
            return args[0] + tf.cast(scale_and_offset(step.operation)[1], args[0].dtype)
        if kind_of(step) == "norm":
            return as_convolution(tf.convert_to_tensor(args[0]), *scale_and_offset(step.operation))
        if id(step) in self.scale_into:
            scale = scale_and_offset(self.scale_into[id(step)])[0]
            mapping = [(v, self.scaled(v, scale)) for v in self.machine.graph.weights_of(step)]
            with keras.StatelessScope(state_mapping=mapping):
                return step.compute(args, kwargs, training=False)
        return step.compute(args, kwargs, training=False)

    def scaled(self, variable: keras.Variable, scale: tf.Tensor) -> tf.Tensor:
        axes = self.machine.channel_axes.get(id(variable), (len(variable.shape) - 1,))
        shape = [size if axis in axes else 1 for axis, size in enumerate(variable.shape)]
        return tf.convert_to_tensor(variable.value) * tf.reshape(scale, shape)


def _scales_by_step(machine: Quantizing) -> dict[int, Any]:
    """For each step whose weights take up a BatchNormalization: that layer."""
    producer = {tensor: step for step in machine.graph.steps for tensor in step.outputs}
    scales: dict[int, Any] = {}
    for tensor, step in machine.plan.folded.items():
        norm = producer[tensor].operation
        scales[id(step)] = norm
        if kind_of(step) == "bias":
            scales[id(producer[step.inputs[0]])] = norm
    return scales
