"""What the outputs of a model are: logits, probabilities or plain values, and how to read them as logits."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import keras
import numpy as np
from keras import ops, tree

from tfbig.errors import InvalidArgument

Activation = Literal["softmax", "sigmoid", "linear", "unknown"]
Task = Literal["categorical", "binary", "values"]

_CATEGORICAL = (
    "CategoricalCrossentropy",
    "SparseCategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "KLDivergence",
)
_BINARY = ("BinaryCrossentropy", "BinaryFocalCrossentropy")
_VALUES = (
    "MeanSquaredError",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredLogarithmicError",
    "CosineSimilarity",
    "Huber",
    "LogCosh",
    "Poisson",
)
_TASK_OF_LOSS: dict[str, Task] = {
    **dict.fromkeys(map(str.lower, _CATEGORICAL), "categorical"),
    **dict.fromkeys(map(str.lower, _BINARY), "binary"),
    **dict.fromkeys(map(str.lower, _VALUES), "values"),
}
_TASK_OF_ACTIVATION: dict[str, Task] = {"softmax": "categorical", "sigmoid": "binary"}

# Layers that hand on what they get, as far as "logits or probabilities" goes.
_PASSING = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Permute,
    keras.layers.Reshape,
)


@dataclasses.dataclass(frozen=True)
class Head:
    """One output of teacher and student: what it predicts, and which of the two give logits."""

    task: Task = "categorical"
    teacher_logits: bool = True
    student_logits: bool = True
    loss: Any = None  # the Keras loss by which `values` are compared

    def as_logits(self, teacher: Any, student: Any) -> tuple[Any, Any]:
        """Both outputs as logits; `values` stay what they are."""
        if self.task == "values":
            return teacher, student
        return (
            teacher if self.teacher_logits else to_logits(teacher, self.task),
            student if self.student_logits else to_logits(student, self.task),
        )


def to_logits(probabilities: Any, task: Task) -> Any:
    """Logits whose softmax (`categorical`) or sigmoid (`binary`) gives `probabilities` back."""
    p = ops.clip(ops.cast(probabilities, "float32"), keras.config.epsilon(), 1.0)
    if task == "categorical":
        return ops.log(p)
    return ops.log(p) - ops.log(ops.maximum(1.0 - p, keras.config.epsilon()))


def resolve(asked: Any, compiled: Any, student: Activation, teacher: Activation, units: int | None, name: str) -> Head:
    """Decides how one output of teacher and student is compared.

    Where neither layers nor loss tell what it is, its numbers are to be near each other, by their squares: right for
    values, and one way to compare logits too (Ba and Caruana, "Do Deep Nets Really Need to be Deep?", 2014,
    https://arxiv.org/abs/1312.6184, equation 1).

    Args:
        asked: "auto", "kl_divergence", or another Keras loss, which then compares the outputs as they are.
        compiled: the loss that the user compiled for this output: a Keras loss, its name, a function, or
        None. student, teacher: the activations that the two outputs end with.
        units: size of the output's last axis.
        name: the student's name, for the message.

    Raises:
        InvalidArgument: classes are asked for and there is one number.
    """
    if asked not in ("auto", "kl_divergence"):
        return Head("values", loss=keras.losses.get(asked))
    loss = keras.losses.get(compiled) if isinstance(compiled, str | dict) else compiled
    task = _task(loss, student, teacher)
    if asked == "kl_divergence" and task in (None, "values"):
        task = "categorical"
    if task is None:
        return Head("values", loss=keras.losses.MeanSquaredError())
    if task == "categorical" and units == 1:
        raise InvalidArgument(
            f"`loss={asked!r}` compares classes, and the output of '{name}' is one number (compiled loss "
            f"{loss_name(loss)}). Compile with a Keras loss that fits it, or name how it is compared: loss='mse'."
        )
    from_logits = bool(getattr(loss, "from_logits", loss_name(loss).lower() not in _TASK_OF_LOSS))
    return Head(task, _gives_logits(teacher, from_logits), _gives_logits(student, from_logits), loss)


def activations(model: keras.Model) -> list[Activation]:
    """The activation that each output of `model` ends with, read from its graph; empty without one."""
    outputs = getattr(model, "outputs", None)
    for machine in getattr(model, "machines", ()):
        if machine.replaces_call:  # It runs a graph of its own, and took the activations off the layers.
            outputs = machine.graph.outputs
    return [_activation_of(output) for output in tree.flatten(outputs)] if outputs is not None else []


def activation_of_values(values: np.ndarray) -> Activation:
    """Guesses the activation from `(samples, ...)` that a model without a graph gave for random inputs."""
    if values.min() < 0 or values.max() > 1:
        return "linear"
    # Rounding to 8 bits leaves the sum of a quantized softmax a little off one.
    sums_to_one = values.shape[-1] > 1 and bool(np.all(np.abs(values.sum(-1) - 1) < 0.1))
    return "softmax" if sums_to_one else "sigmoid"


def loss_name(loss: Any) -> str:
    """The class name of a Keras loss, whether it is given as object, function or name."""
    if loss is None:
        return "None"
    name = getattr(loss, "__name__", type(loss).__name__)
    return name.replace("_", "") if callable(loss) and hasattr(loss, "__name__") else name


def _task(loss: Any, student: Activation, teacher: Activation) -> Task | None:
    by_loss = _TASK_OF_LOSS.get(loss_name(loss).lower())
    return by_loss or _TASK_OF_ACTIVATION.get(student) or _TASK_OF_ACTIVATION.get(teacher)


def _gives_logits(activation: Activation, from_logits: bool) -> bool:
    return from_logits if activation == "unknown" else activation == "linear"


def _activation_of(tensor: Any) -> Activation:
    operation, node, index = tensor._keras_history
    if isinstance(operation, keras.Model):
        inner = activations(operation)
        return inner[index] if inner else "unknown"
    kind = _activation_of_operation(operation)
    if kind is not None:
        return kind
    inputs = operation._inbound_nodes[node].input_tensors
    return _activation_of(inputs[0]) if inputs else "unknown"


def _activation_of_operation(operation: Any) -> Activation | None:
    """None where the operation hands on what it gets."""
    if isinstance(operation, keras.layers.Wrapper):
        return _activation_of_operation(operation.layer)
    if isinstance(operation, keras.layers.Softmax):
        return "softmax"
    if isinstance(operation, _PASSING):
        return None
    activation = getattr(operation, "activation", None)
    if isinstance(operation, keras.layers.Activation) and activation is keras.activations.linear:
        return None
    by_operation: dict[str, Activation] = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "linear"}
    if activation is None:
        return by_operation.get(type(operation).__name__, "unknown")
    known: dict[Any, Activation] = {
        keras.activations.softmax: "softmax",
        keras.activations.sigmoid: "sigmoid",
    }
    return known.get(activation, "linear")
