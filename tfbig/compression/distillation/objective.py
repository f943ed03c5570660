"""What a student learns from its teachers: a weighted sum of losses, of outputs and of layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import keras
from keras import tree

from tfbig.compression.distillation import heads, taps
from tfbig.compression.distillation.losses import LayerLoss, SoftTargets
from tfbig.compression.distillation.teacher import Knowledge, Teacher
from tfbig.errors import InvalidArgument, InvalidData


@dataclasses.dataclass(frozen=True)
class Said:
    """What the student says to a batch, and how it is judged.

    Args:
        outputs: the student's outputs, in their structure.
        features: what its layers gave, by name.
        losses: the compiled loss of each output, or None.
        sample_weight: `(batch,)`, or one for each output, or None.
    """

    outputs: Any
    features: dict[str, Any]
    losses: list[Any]
    sample_weight: Any = None

    @property
    def weighted(self) -> dict[str, Any]:
        """The argument for losses that know sample weights; those that do not are not asked."""
        return {} if self.sample_weight is None else {"sample_weight": self.sample_weight}

    def structured(self, flat: Sequence[Any]) -> Any:
        """Outputs of a teacher in the structure of the student's."""
        return tree.pack_sequence_as(self.outputs, list(flat))


class Objective:
    """The loss of a student under its teachers.

    Args:
        losses: `keras.distillation.DistillationLoss` objects.
        factors: one for each of them.

    Raises:
        InvalidModel: layers whose features cannot be compared.
    """

    def __init__(self, losses: Sequence[Any], factors: Sequence[float], teacher: Teacher, student: keras.Model):
        self.losses, self.factors, self.teacher, self.student = list(losses), list(factors), teacher, student
        self.student_layers = layers_of(losses, "student")
        pairs = [loss for loss in losses if isinstance(loss, LayerLoss)]
        if pairs:
            theirs, ours = teacher.shapes()["features"], taps.trace(student, self.student_layers)[1]
            for pair in pairs:
                pair.build(theirs[pair.teacher_layer_name], ours[pair.student_layer_name])

    def __call__(self, knowledge: Knowledge, said: Said) -> Any:
        """The weighted sum of all losses; of outputs, over all teachers by their weights."""
        total = 0.0
        for loss, factor in zip(self.losses, self.factors, strict=True):
            if layers_of([loss], "teacher") or layers_of([loss], "student"):
                total += factor * self.of_layers(loss, knowledge, said)
            else:
                each = [self.of_outputs(loss, i, knowledge, said) for i in range(len(self.teacher.weights))]
                total += factor * sum(w * value for w, value in zip(self.teacher.weights, each, strict=True))
        return total

    def of_layers(self, loss: Any, knowledge: Knowledge, said: Said) -> Any:
        """One loss that compares layers."""
        taps.check_recorded(self.student, self.student_layers, said.features)
        theirs, ours = loss.teacher_layer_name, loss.student_layer_name
        if theirs and theirs not in knowledge["features"]:
            raise InvalidData(
                f"The data set carries the teacher's answers without its layer '{theirs}'. Make it with the cache of "
                "the same Distill that prepares the student."
            )
        teacher = knowledge["features"][theirs] if theirs else said.structured(knowledge["outputs"][0])
        student = said.features[ours] if ours else said.outputs
        return loss.compute_loss(teacher, student, **said.weighted)

    def of_outputs(self, loss: Any, i: int, knowledge: Knowledge, said: Said) -> Any:
        """One loss that compares outputs, with teacher `i`."""
        answers, predictions = knowledge["outputs"][i], tree.flatten(said.outputs)
        if not isinstance(loss, keras.distillation.LogitsDistillation):
            return loss.compute_loss(said.structured(answers), said.outputs, **said.weighted)
        if loss.loss is keras.losses.kl_divergence:
            # Keras gives this function, its own default, the logits for probabilities; the loss is then always 0.
            loss = SoftTargets(loss.temperature, "kl_divergence")
        if isinstance(loss, SoftTargets):
            compared = self.heads(loss.loss, i, said)
            return loss.compute_loss(answers, predictions, heads=compared, **said.weighted)
        compared = self.heads("kl_divergence", i, said)
        pairs = [h.as_logits(t, s) for h, t, s in zip(compared, answers, predictions, strict=True)]
        teacher, student = (said.structured([pair[side] for pair in pairs]) for side in (0, 1))
        return loss.compute_loss(teacher, student)

    def heads(self, asked: Any, i: int, said: Said) -> list[heads.Head]:
        """How each output is compared with teacher `i`."""
        predictions = tree.flatten(said.outputs)
        students = heads.activations(self.student) or ["unknown"] * len(predictions)
        columns = zip(said.losses, students, self.teacher.sources[i].activations, predictions, strict=True)
        return [
            heads.resolve(asked, loss, student, teacher, prediction.shape[-1], self.student.name)
            for loss, student, teacher, prediction in columns
        ]


def layers_of(losses: Sequence[Any], whose: Literal["student", "teacher"]) -> tuple[str, ...]:
    """The layers that the losses name, each once."""
    names = [getattr(loss, f"{whose}_layer_name", None) for loss in losses]
    return tuple(dict.fromkeys(name for name in names if name))


def listed(losses: Any) -> list[Any]:
    """The losses as a list.

    Raises:
        InvalidArgument: one is no `keras.distillation.DistillationLoss`.
    """
    given = list(losses) if isinstance(losses, list | tuple) else [losses]
    for loss in given:
        if not isinstance(loss, keras.distillation.DistillationLoss):
            raise InvalidArgument(
                "`distillation_losses` must be keras.distillation.DistillationLoss objects such as SoftTargets(4.0), "
                f"received {loss!r}. The loss of the labels goes into compile(loss=...)."
            )
    return given


def factors(weights: Sequence[float] | None, losses: list[Any]) -> list[float]:
    """One factor for each loss, 1 unless given.

    Raises:
        InvalidArgument: another number of factors.
    """
    found = [1.0] * len(losses) if weights is None else list(weights)
    if len(found) != len(losses):
        raise InvalidArgument(
            f"`distillation_loss_weights` must hold one number for each of the {len(losses)} losses, received {found}."
        )
    return found


def losses_of_outputs(compiled: Any, outputs: Any, names: Sequence[str] | None) -> list[Any]:
    """The compiled loss of each output, in the order in which `outputs` is flattened.

    Args:
        compiled: what was given to `compile`: a loss for all outputs, or a structure of losses.
        names: the names of the outputs.
    """
    if isinstance(compiled, dict):
        keys = sorted(outputs) if isinstance(outputs, dict) else names or sorted(compiled)
        return [compiled.get(key) for key in keys]
    if isinstance(compiled, list | tuple):
        return list(compiled)
    return [compiled] * len(tree.flatten(outputs))
