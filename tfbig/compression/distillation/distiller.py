"""`Distiller`: a model that trains a student on labels and teacher at once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras import tree

from tfbig.compression.distillation import cache, taps
from tfbig.compression.distillation.losses import SoftTargets
from tfbig.compression.distillation.objective import Objective, Said, factors, layers_of, listed, losses_of_outputs
from tfbig.compression.distillation.teacher import Teacher, check_fit, check_teachers
from tfbig.compression.native.clone import check_keras_model, serialize
from tfbig.compression.native.prepared import TrainingLength
from tfbig.errors import InvalidModel, check_range


@keras.saving.register_keras_serializable(package="tfbig")
class Distiller(keras.distillation.Distiller):
    """Trains `student` on `(1 - alpha) * loss(labels) + alpha * loss(teacher)`.

    Compile and fit it with any optimizer, loss and metrics of the student; `evaluate`, `predict` and a call
    do what the student does. The student is trained in place and stands in `.student`; the teacher is asked
    with `training=False` and never changes. Teacher and student may differ in dtype (a `mixed_float16`
    student, a float32 teacher), and may end in logits or in probabilities, each as it likes.

    Args:
        teacher: a Keras 3 model, a path (`.keras`, `.h5`, `.tflite` or a SavedModel folder), or several of
            these.
        student: a built Keras 3 model, prepared for pruning or quantization or not.
        distillation_losses: what is learned from the teacher: `SoftTargets`, `FeatureMatch`,
            `AttentionTransfer`, or any `keras.distillation.DistillationLoss`. `[SoftTargets(temperature)]`
            unless given.
        distillation_loss_weights: a factor for each of these losses; 1 unless given.
        temperature: of the default loss, above 0.
        alpha: share of the teacher in the loss, in [0, 1]; with 1 labels are not needed.
        teacher_weights: a weight for each of several teachers; equal unless given.

    Raises:
        InvalidArgument: an option out of range, an unknown layer, a teacher that is neither model nor path.
        InvalidFile: a teacher's path that does not exist, or is no model.
        InvalidModel: inputs or outputs of teacher and student that do not fit; a student with a `train_step`
            or `compute_loss` of its own, which this class would leave out.

    Reference: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", 2015,
        https://arxiv.org/abs/1503.02531.
    """

    # Keras's own Distiller takes neither sample weights nor a structure of losses, and its compile is not saved.
    compile = keras.Model.compile

    def __init__(
        self,
        teacher: Any,
        student: keras.Model,
        distillation_losses: Sequence[keras.distillation.DistillationLoss] | None = None,
        distillation_loss_weights: Sequence[float] | None = None,
        *,
        temperature: float = 4.0,
        alpha: float = 0.5,
        teacher_weights: Sequence[float] | None = None,
        name: str = "distiller",
        **keras_arguments: Any,
    ):
        check_range("alpha", alpha, 0, 1)
        check_teachers(teacher)
        check_keras_model(student)
        losses = [SoftTargets(temperature)] if distillation_losses is None else listed(distillation_losses)
        keras_arguments.setdefault("dtype", _policy(student))
        super().__init__(
            teacher=Teacher(teacher, teacher_weights, layers_of(losses, "teacher"), copy=True),
            student=student,
            distillation_losses=losses,
            distillation_loss_weights=factors(distillation_loss_weights, losses),
            student_loss_weight=1 - alpha,
            name=name,
            autocast=False,  # The batch reaches the teacher as it is; the student casts for itself.
            **keras_arguments,
        )
        self.alpha = alpha
        self._features = threading.local()
        self.supports_jit = self.teacher.supports_jit
        # Teachers given as models are saved and copied with the distiller; paths are read anew.
        self.own_teachers = [source.model for source in self.teacher.sources if source.path is None]
        self.projections = [loss.projection for loss in losses if getattr(loss, "projection", None)]
        self.built = True

    @property
    def inputs(self) -> Any:
        """The student's, like `outputs` and `output_names`."""
        return self.student.inputs

    @property
    def outputs(self) -> Any:
        return self.student.outputs

    @property
    def output_names(self) -> list[str]:
        return self.student.output_names

    @property
    def machines(self) -> list[Any]:
        """The machines of the techniques that the student was prepared with."""
        return getattr(self.student, "machines", [])

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        """The callbacks that a training of the student needs."""
        return getattr(self.student, "training_callbacks", list)()

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The student's metrics and the two parts of the loss, of which training alone reports."""
        return [metric for metric in super().metrics if metric is not self.total_loss_tracker]

    def call(self, inputs: Any, training: bool | None = None, **kwargs: Any) -> Any:
        """The student's outputs."""
        with taps.record(self.student, self.objective.student_layers if training else ()) as found:
            predictions = self.student(inputs, training=training, **kwargs)
        self._features.found = found
        return predictions

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """In training the weighted sum of both losses and the penalties, in evaluation the student's loss."""
        labels, knowledge = cache.split(y)
        student_loss = super(keras.distillation.Distiller, self).compute_loss
        if not training:
            return student_loss(x, labels, y_pred, sample_weight)
        penalties = tf.add_n([tf.cast(loss, "float32") for loss in self.losses]) if self.losses else 0.0
        own = penalties
        if self.alpha < 1 and labels is not None:
            own = student_loss(x, labels, y_pred, sample_weight)
        taught = 0.0
        if self.alpha > 0:
            compiled = losses_of_outputs(getattr(self, "loss", None), y_pred, getattr(self, "output_names", None))
            said = Said(y_pred, self._features.found, compiled, sample_weight)
            taught = self.objective(knowledge or self.teacher(x), said)
        self._track(own, taught, tf.shape(tree.flatten(y_pred)[0])[0])
        return (1 - self.alpha) * own + self.alpha * (taught + penalties)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        return super().compute_metrics(x, cache.split(y)[0], y_pred, sample_weight=sample_weight)

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        given = kwargs.pop("callbacks", None) or []
        if self.machines and isinstance(given, keras.callbacks.CallbackList):
            given.append(TrainingLength())
        elif self.machines:
            given = [*(given if isinstance(given, list | tuple) else [given]), TrainingLength()]
        kwargs["callbacks"] = given
        return super().fit(*args, **kwargs)

    def test_step(self, data: Any) -> dict[str, Any]:
        logs = super().test_step(data)
        parts = (self.student_loss_tracker.name, self.distillation_loss_tracker.name)
        return {name: value for name, value in logs.items() if name not in parts}

    def _get_metrics_result_or_logs(self, logs: dict[str, Any]) -> dict[str, Any]:
        # Keras takes the metrics' own values only if training and evaluation report the same names.
        results = self.get_metrics_result()
        return {name: results.get(name, value) for name, value in logs.items()}

    def export(self, *args: Any, **kwargs: Any) -> Any:
        return self.student.export(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        teachers = [source.path or serialize(source.model) for source in self.teacher.sources]
        return {
            **super(keras.distillation.Distiller, self).get_config(),
            "teacher": teachers,
            "student": serialize(self.student),
            "distillation_losses": [keras.saving.serialize_keras_object(loss) for loss in self.distillation_losses],
            "distillation_loss_weights": list(self.distillation_loss_weights),
            "alpha": self.alpha,
            "teacher_weights": self.teacher.weights,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> Distiller:
        def built(entry: Any) -> Any:
            return keras.saving.deserialize_keras_object(entry, custom_objects)

        config = dict(config, dtype=built(config["dtype"]), student=built(config["student"]))
        config["teacher"] = [t if isinstance(t, str) else built(t) for t in config["teacher"]]
        config["distillation_losses"] = [built(loss) for loss in config["distillation_losses"]]
        return cls(**config)

    def _track(self, own: Any, taught: Any, batch: Any) -> None:
        # Under a strategy Keras divides a loss by the number of replicas; people want to read the mean.
        replicas = tf.distribute.get_strategy().num_replicas_in_sync
        self.student_loss_tracker.update_state(own * replicas, sample_weight=batch)
        self.distillation_loss_tracker.update_state(taught * replicas, sample_weight=batch)

    # The next three are steps of Keras's own __init__.

    def _validate_models(self, teacher: Teacher, student: keras.Model) -> None:
        own = [m for m in ("train_step", "compute_loss") if getattr(type(student), m) is not getattr(keras.Model, m)]
        if own:
            raise InvalidModel(
                f"`student` '{student.name}' has a {' and a '.join(own)} of its own, which distillation "
                "would leave out. Put what it computes into the loss or into layers (add_loss), or distill "
                "by hand with SoftTargets."
            )
        shapes = [tuple(t.shape) for t in tree.flatten(getattr(student, "outputs", None) or [])]
        check_fit(student, teacher, shapes or taps.trace(student)[0])

    def _validate_distillation_loss_compatibility(self, teacher: Any, student: keras.Model, loss: Any) -> None:
        for name in layers_of([loss], "student"):
            taps.find(student, name)

    def _create_multi_feature_extractors(self) -> None:
        # Straight into the instance: Keras would track, and save, what is only a view of its own parts.
        objective = Objective(self.distillation_losses, self.distillation_loss_weights, self.teacher, self.student)
        object.__setattr__(self, "objective", objective)


def _policy(student: keras.Model) -> keras.DTypePolicy:
    """The policy that decides whether Keras scales the loss: float16 anywhere inside needs it."""
    policies = [layer.dtype_policy for layer in student._flatten_layers()]
    return next((p for p in policies if p.name == "mixed_float16"), student.dtype_policy)
