"""What a student can learn from a teacher: softened outputs, features, attention maps.

Each is a `keras.distillation.DistillationLoss` and can stand in `Distiller(distillation_losses=[...])` beside
those that Keras ships.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops, tree

from tfbig.compression.distillation.heads import Head
from tfbig.compression.distillation.taps import Shape
from tfbig.errors import InvalidModel, check_range

_registered = keras.saving.register_keras_serializable(package="tfbig")


@_registered
class SoftTargets(keras.distillation.LogitsDistillation):
    """The softened outputs of the teacher as targets: `T^2 KL(softmax(t / T) || softmax(s / T))`.

    Independent probabilities (sigmoid outputs) take the same divergence of each Bernoulli variable, and
    values (regression) the loss that the model was compiled with.

    Args:
        temperature: `T`, above 0. Higher shows more of what the teacher thinks of the wrong classes.
        loss: "auto" (by the outputs and the compiled loss), "kl_divergence", or any Keras loss or its name,
            which then compares the outputs as they are, without temperature.

    Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2,
        https://arxiv.org/abs/1503.02531.
    """

    def __init__(self, temperature: float = 4.0, loss: Any = "auto"):
        check_range("temperature", temperature, 0, math.inf, closed="neither")
        super().__init__(temperature=temperature)
        self.loss = loss

    def compute_loss(
        self,
        teacher_outputs: Any,
        student_outputs: Any,
        sample_weight: Any = None,
        heads: list[Head] | None = None,
        **kwargs: Any,
    ) -> Any:
        """The mean loss over the batch, summed over outputs.

        Args:
            teacher_outputs, student_outputs: `(batch, ..., classes)`, or a structure of such.
            sample_weight: `(batch,)`, or one for each output.
            heads: what each output is; without it all are logits of classes.
        """
        pairs = list(zip(tree.flatten(teacher_outputs), tree.flatten(student_outputs), strict=True))
        weights = tree.flatten(sample_weight) if isinstance(sample_weight, list | tuple | dict) else None
        total = 0.0
        for i, (teacher, student) in enumerate(pairs):
            head = heads[i] if heads else Head()
            weight = weights[i] if weights else sample_weight
            total += self.comparison(head)(*head.as_logits(teacher, student), sample_weight=weight)
        return total

    def comparison(self, head: Head) -> keras.losses.Loss:
        """The Keras loss that compares teacher and student at one output."""
        if head.task == "values":
            return _as_loss(head.loss)
        return SoftenedDivergence(self.temperature, binary=head.task == "binary")

    def get_config(self) -> dict[str, Any]:
        loss = self.loss if isinstance(self.loss, str) else keras.losses.serialize(self.loss)
        return {"temperature": self.temperature, "loss": loss}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SoftTargets:
        loss = config["loss"]
        return cls(config["temperature"], loss if isinstance(loss, str) else keras.losses.deserialize(loss))


class SoftenedDivergence(keras.losses.Loss):
    """`T^2 KL(teacher || student)` of two tensors of logits at temperature `T`.

    Args:
        binary: each logit is a Bernoulli variable of its own; otherwise the last axis is one distribution.
    """

    def __init__(self, temperature: float, binary: bool = False):
        super().__init__(name="softened_divergence", reduction="sum_over_batch_size", dtype="float32")
        self.temperature, self.binary = temperature, binary

    def call(self, y_true: Any, y_pred: Any) -> Any:
        teacher, student = y_true / self.temperature, y_pred / self.temperature
        if self.binary:
            divergence = ops.mean(_side(teacher, student) + _side(-teacher, -student), axis=-1)
        else:
            log_p, log_q = ops.log_softmax(teacher, axis=-1), ops.log_softmax(student, axis=-1)
            divergence = ops.sum(ops.exp(log_p) * (log_p - log_q), axis=-1)
        return self.temperature**2 * divergence


class LayerLoss(keras.distillation.DistillationLoss):
    """Base of the losses that compare a layer of the student with a layer of the teacher.

    Args:
        student_layer_name, teacher_layer_name: names of the layers, nested ones too. The teacher's is the
            student's unless given.
    """

    projection: keras.layers.Layer | None = None

    def __init__(self, student_layer_name: str, teacher_layer_name: str | None = None):
        self.student_layer_name = student_layer_name
        self.teacher_layer_name = teacher_layer_name or student_layer_name

    def build(self, teacher_shape: Shape, student_shape: Shape) -> None:
        """Checks that the two features can be compared, and makes what is needed to do so.

        Raises:
            InvalidModel: they have different numbers of axes, or lack a fixed number of channels.
        """
        if len(teacher_shape) != len(student_shape) or len(teacher_shape) < 2:
            raise self.cannot_compare(teacher_shape, student_shape, "the same number of axes, at least two")
        resizable = len(teacher_shape) in (3, 4)
        if not resizable and teacher_shape[1:-1] != student_shape[1:-1]:
            raise self.cannot_compare(teacher_shape, student_shape, "equal positions (axes between first and last)")

    def cannot_compare(self, teacher_shape: Shape, student_shape: Shape, expected: str) -> InvalidModel:
        return InvalidModel(
            f"Layer '{self.student_layer_name}' of the student gives {student_shape}, layer "
            f"'{self.teacher_layer_name}' of the teacher {teacher_shape}; {type(self).__name__} needs "
            f"{expected}. Name another pair of layers."
        )

    def get_config(self) -> dict[str, Any]:
        return {
            "student_layer_name": self.student_layer_name,
            "teacher_layer_name": self.teacher_layer_name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LayerLoss:
        return cls(**config)


@_registered
class FeatureMatch(LayerLoss):
    """Mean squared difference of two features, `(batch, ..., channels)`.

    Where the numbers of channels differ, a learned linear map takes the student's to the teacher's; where the
    positions differ, the student's feature is resized. Both are left behind after training.

    Reference: Romero et al., "FitNets: Hints for Thin Deep Nets", 2015, eq. 3,
        https://arxiv.org/abs/1412.6550.
    """

    def build(self, teacher_shape: Shape, student_shape: Shape) -> None:
        super().build(teacher_shape, student_shape)
        if teacher_shape[-1] is None or student_shape[-1] is None:
            raise self.cannot_compare(teacher_shape, student_shape, "a fixed number of channels (last axis)")
        if teacher_shape[-1] != student_shape[-1]:
            name = f"{self.student_layer_name}_to_{self.teacher_layer_name}".replace("/", "_")
            self.projection = keras.layers.Dense(teacher_shape[-1], dtype="float32", name=name)
            self.projection.build((None, *student_shape[1:]))

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, sample_weight: Any = None, **kwargs: Any) -> Any:
        teacher, student = ops.cast(teacher_outputs, "float32"), ops.cast(student_outputs, "float32")
        student = student if self.projection is None else self.projection(student)
        return _mean_squared(teacher, _resized(student, teacher), sample_weight)


@_registered
class AttentionTransfer(LayerLoss):
    """Squared difference of two attention maps: where in the picture (or text) the layers are active.

    A map is the sum over channels of the squared feature `(batch, ..., channels)`, scaled to length 1.
    Channels may differ; positions are resized. As in the authors' code the difference is averaged over
    positions.

    Reference: Zagoruyko, Komodakis, "Paying More Attention to Attention", 2017, eq. 2,
        https://arxiv.org/abs/1612.03928.
    """

    def build(self, teacher_shape: Shape, student_shape: Shape) -> None:
        super().build(teacher_shape, student_shape)
        if len(teacher_shape) < 3:
            raise self.cannot_compare(teacher_shape, student_shape, "positions (axes between first and last)")

    def compute_loss(self, teacher_outputs: Any, student_outputs: Any, sample_weight: Any = None, **kwargs: Any) -> Any:
        teacher, student = _energy(teacher_outputs), _energy(student_outputs)
        student = _resized(student, teacher)
        return _mean_squared(_unit_length(teacher), _unit_length(student), sample_weight)


def _as_loss(loss: Any) -> keras.losses.Loss:
    if isinstance(loss, keras.losses.Loss):
        return loss
    return FunctionLoss(loss)


class FunctionLoss(keras.losses.Loss):
    """A function of (targets, predictions), reduced as Keras reduces its own losses."""

    def __init__(self, function: Any):
        super().__init__(name="function_loss", dtype="float32")
        self.function = function

    def call(self, y_true: Any, y_pred: Any) -> Any:
        return self.function(y_true, y_pred)


def _side(teacher: Any, student: Any) -> Any:
    log_p, log_q = ops.log_sigmoid(teacher), ops.log_sigmoid(student)
    return ops.exp(log_p) * (log_p - log_q)


def _mean_squared(teacher: Any, student: Any, sample_weight: Any) -> Any:
    """Mean over everything, by way of a Keras loss, which knows weights and replicas."""
    if isinstance(sample_weight, list | tuple | dict):
        sample_weight = None  # One weight for each output says nothing about a layer inside.
    batch = ops.shape(teacher)[0]
    flat = (ops.reshape(teacher, (batch, -1)), ops.reshape(student, (batch, -1)))
    return keras.losses.MeanSquaredError(dtype="float32")(*flat, sample_weight=sample_weight)


def _energy(features: Any) -> Any:
    return ops.sum(ops.square(ops.cast(features, "float32")), axis=-1, keepdims=True)


def _unit_length(maps: Any) -> Any:
    flat = ops.reshape(maps, (ops.shape(maps)[0], -1))
    return flat * ops.rsqrt(ops.sum(ops.square(flat), axis=-1, keepdims=True) + 1e-12)


def _resized(student: Any, teacher: Any) -> Any:
    """The student's feature at the teacher's positions."""
    if len(student.shape) == 2 or student.shape[1:-1] == teacher.shape[1:-1]:
        return student
    if len(student.shape) == 3:
        return _resized(student[:, :, None], teacher[:, :, None])[:, :, 0]
    return ops.image.resize(student, tuple(ops.shape(teacher)[1:3]), interpolation="bilinear", antialias=True)
