"""A model as its LiteRT file will compute it: in float, BatchNormalization folded into the layers before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.compression.native.graph import Step
from tfbig.compression.native.points import Point, kind_of
from tfbig.compression.native.prepared import Prepared, WeightsSeenThrough
from tfbig.compression.native.quantizing import Quantizing, norm_affine

Record = Callable[[Point, Any], None]


def quantizing_machine(model: keras.Model) -> Quantizing | None:
    """The model's quantization machine, if it was prepared with `Quantize`."""
    machines = model.machines if isinstance(model, Prepared) else []
    return next((m for m in machines if isinstance(m, Quantizing)), None)


def folded_outputs(model: Prepared, values: list[Any], record: Record | None = None) -> Any:
    """The outputs of a model prepared with `Quantize`, its activations not rounded.

    Args:
        values: one tensor for each input of the machine's graph.
        record: called with each point and the value there.
    """
    machine = quantizing_machine(model)
    assert machine is not None
    with WeightsSeenThrough(model.machines, training=False):
        run = _FoldedRun(machine, record or (lambda point, value: None))
        for symbol, value in zip(machine.graph.inputs, values, strict=True):
            run.note(id(symbol), value)
        return machine.graph.run(values, run.step)


def ranges_at_points(model: Prepared, values: list[Any]) -> list[tuple[np.ndarray, tuple[float, float]]]:
    """For each tensor that is quantized: its value for `values`, and the range it was trained with."""
    machine = quantizing_machine(model)
    assert machine is not None
    learned = machine.ranges.numpy()
    found: list[tuple[np.ndarray, tuple[float, float]]] = []

    def record(point: Point, value: Any) -> None:
        low, high = point.fixed or learned[point.index]
        found.append((np.asarray(value, "float32"), (float(low), float(high))))

    folded_outputs(model, values, record)
    return found


class _FoldedRun:
    """Runs the flat graph with the scales of BatchNormalization moved into the weights before it."""

    def __init__(self, machine: Quantizing, record: Record):
        self.machine, self.plan, self.record = machine, machine.plan, record
        self.scale_into = _scales_by_step(machine)

    def step(self, step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
        outputs = self.compute(step, args, kwargs)
        if id(step.operation) not in self.machine.exempt:
            for tensor, value in zip(step.outputs, keras.tree.flatten(outputs), strict=True):
                self.note(tensor, value)
        return outputs

    def compute(self, step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
        tensor = step.outputs[0]
        if tensor in self.plan.folded:
            return args[0] + tf.cast(norm_affine(step.operation)[1], args[0].dtype)
        if tensor in self.plan.inside_norm:
            scale, offset = (tf.cast(v, args[0].dtype) for v in norm_affine(step.operation))
            scaled = args[0] * scale
            self.record(self.plan.inside_norm[tensor], scaled)
            return scaled + offset
        if id(step) in self.scale_into:
            scale = norm_affine(self.scale_into[id(step)])[0]
            mapping = [(v, self.scaled(v, scale)) for v in _variables(step)]
            with keras.StatelessScope(state_mapping=mapping):
                return step.operation(*args, **kwargs)
        return step.operation(*args, **kwargs)

    def scaled(self, variable: keras.Variable, scale: tf.Tensor) -> tf.Tensor:
        axes = self.machine.channel_axes.get(id(variable), (len(variable.shape) - 1,))
        shape = [size if axis in axes else 1 for axis, size in enumerate(variable.shape)]
        return tf.convert_to_tensor(variable.value) * tf.reshape(scale, shape)

    def note(self, tensor: int, value: Any) -> None:
        point = self.plan.scale_of.get(tensor)
        if point is not None:
            self.record(point, value)


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


def _variables(step: Step) -> list[keras.Variable]:
    if isinstance(step.operation, keras.layers.Layer):
        return list(step.operation.weights)
    leaves = keras.tree.flatten((step.arguments.args, step.arguments.kwargs))
    return [leaf for leaf in leaves if isinstance(leaf, keras.Variable)]
