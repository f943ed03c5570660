"""`Distill`: a student learns from the labels and from a teacher's outputs, features and attention."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf

from tfbig.compression.distillation.cache import with_knowledge
from tfbig.compression.distillation.distiller import Distiller
from tfbig.compression.distillation.losses import AttentionTransfer, FeatureMatch, SoftTargets
from tfbig.compression.distillation.teacher import Teacher, check_teachers, normalised, several
from tfbig.compression.native.clone import clone
from tfbig.compression.technique import Technique
from tfbig.errors import InvalidArgument, InvalidModel, check_range

__all__ = ["AttentionTransfer", "Distill", "Distiller", "FeatureMatch", "SoftTargets"]

LayerPairs = Sequence[str | Sequence[str]]


@dataclasses.dataclass(frozen=True)
class Distill(Technique):
    """Trains a student on `(1 - alpha) * loss(labels) + alpha * loss(teacher)`.

    The model's weights change as in any training, its architecture does not: `prepare` puts a copy of the
    student under a `Distiller`, `finish` returns it. The student may have been prepared by other techniques,
    which then train together.

    Args:
        teacher: a Keras 3 model, a path (`.keras`, `.h5`, `.tflite` or a SavedModel folder), or several of
            these. Without one, `compress` uses the original model; by hand, the model as it is when `prepare`
            gets it teaches its trained self. Models are left out of `get_config`, paths are not.
        temperature: above 0; higher shows more of what the teacher thinks of the wrong classes. The loss is
            scaled by its square.
        alpha: share of the teacher in the loss, in [0, 1].
        loss: "auto" (divergence of softened classes for classifiers, the compiled loss for values, squares where a
            loss of your own does not tell which they are), "kl_divergence", or any Keras loss or its name, which
            compares the outputs as they are.
        features: layers whose features `(batch, ..., channels)` the student should match: names, or pairs
            (student's layer, teacher's layer). Where channels differ, a linear map is learned.
        attention: layers whose attention maps should agree, named likewise.
        feature_weight: factor of each pair of features, at least 0.
        attention_weight: factor of each pair of attention maps, at least 0.
        teacher_weights: a weight for each of several teachers; equal unless given.

    Raises:
        InvalidArgument: an option out of its range, a teacher that is neither model nor path.
        InvalidFile: a teacher's path that does not exist, or is no model.

    References: Hinton, Vinyals, Dean, 2015, https://arxiv.org/abs/1503.02531; Romero et al., 2015 (features),
        https://arxiv.org/abs/1412.6550; Zagoruyko, Komodakis, 2017 (attention),
        https://arxiv.org/abs/1612.03928.
    """

    name: ClassVar[str] = "distill"
    wraps: ClassVar[bool] = True

    teacher: Any = dataclasses.field(default=None, metadata={"serialized": False})
    temperature: float = 4.0
    alpha: float = 0.5
    loss: Any = "auto"
    features: LayerPairs = ()
    attention: LayerPairs = ()
    feature_weight: float = 1.0
    attention_weight: float = 1000.0
    teacher_weights: Sequence[float] | None = None

    def __post_init__(self) -> None:
        check_range("temperature", self.temperature, 0, math.inf, closed="neither")
        check_range("alpha", self.alpha, 0, 1)
        check_range("feature_weight", self.feature_weight, 0, math.inf, closed="left")
        check_range("attention_weight", self.attention_weight, 0, math.inf, closed="left")
        object.__setattr__(self, "features", _pairs("features", self.features))
        object.__setattr__(self, "attention", _pairs("attention", self.attention))
        object.__setattr__(self, "loss", _loss(self.loss))
        for option in ("teacher", "teacher_weights"):
            if isinstance(getattr(self, option), list):
                object.__setattr__(self, option, tuple(getattr(self, option)))
        if self.teacher is not None:
            check_teachers(self.teacher)
            normalised(self.teacher_weights, len(several(self.teacher)))

    def with_teacher(self, model: Any) -> Distill:
        """This technique with `model` for its teacher; unchanged if it has one."""
        return self if self.teacher is not None else dataclasses.replace(self, teacher=model)

    def informed(self, original: keras.Model, data: Any, loss: Any) -> Distill:
        return self.with_teacher(original)

    def prepare(self, model: keras.Model) -> Distiller:
        """Returns a `Distiller` that trains a copy of `model`.

        Raises:
            InvalidModel: inputs or outputs of teacher and student that do not fit.
            InvalidArgument: `features` or `attention` name a layer that is not there.
        """
        student = clone(model)
        layers = [FeatureMatch(*pair) for pair in self.features] + [AttentionTransfer(*p) for p in self.attention]
        factors = [self.feature_weight] * len(self.features) + [self.attention_weight] * len(self.attention)
        return Distiller(
            model if self.teacher is None else self.teacher,
            student,
            [SoftTargets(self.temperature, self.loss), *layers],
            [1.0, *factors],
            alpha=self.alpha,
            teacher_weights=self.teacher_weights,
            name=model.name,
        )

    def finish(self, model: keras.Model) -> keras.Model:
        """Returns the student that `prepare`'s model has trained."""
        if not isinstance(model, Distiller):
            raise InvalidModel(
                f"`model` '{getattr(model, 'name', model)}' was not prepared with Distill, so it cannot be "
                "finished. Call Distill(...).prepare(model) first, and finish what it returns."
            )
        return model.student

    def cache(self, dataset: tf.data.Dataset, path: str | os.PathLike | None = None) -> tf.data.Dataset:
        """Returns `dataset` with the teacher's answers in it, computed once for each sample.

        Fit the prepared model on it: from the second epoch on the teacher no longer runs. Samples are known
        by their content, so the data set may shuffle; what makes new samples (augmentation) belongs behind
        it.

        Args:
            dataset: batches of `x`, `(x, y)` or `(x, y, sample_weight)`.
            path: a folder that keeps the answers for other processes and later stages; in memory without it.

        Raises:
            InvalidArgument: no teacher yet: `with_teacher(model).cache(dataset)`.
            InvalidData: `dataset` is no `tf.data.Dataset`, or the answers have no fixed size.
            InvalidFile: `path` holds the answers of another teacher.
        """
        if self.teacher is None:
            raise InvalidArgument(
                "`cache` needs a teacher, but Distill() has none yet. Write "
                "Distill(...).with_teacher(model).cache(dataset)."
            )
        return with_knowledge(dataset, self.asked(), path)

    def asked(self) -> Teacher:
        """The teacher, and the layers of it that the student should match."""
        layers = [pair[-1] for pair in (*self.features, *self.attention)]
        return Teacher(self.teacher, self.teacher_weights, layers)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        teachers = [] if self.teacher is None else several(self.teacher)
        if teachers and all(isinstance(t, str | os.PathLike) for t in teachers):
            paths = [str(t) for t in teachers]
            config["teacher"] = paths if isinstance(self.teacher, tuple) else paths[0]
        for option in ("features", "attention"):
            if option in config:
                config[option] = [list(pair) for pair in config[option]]
        if not isinstance(self.loss, str):
            config["loss"] = keras.losses.serialize(self.loss)
        return config


def _pairs(option: str, given: Any) -> tuple[tuple[str, str], ...]:
    """The layers as (student's, teacher's) pairs."""
    entries = given if isinstance(given, list | tuple) else None
    pairs = [(e, e) if isinstance(e, str) else tuple(e) if isinstance(e, list | tuple) else () for e in entries or ()]
    if entries is None or not all(len(p) == 2 and all(isinstance(n, str) for n in p) for p in pairs):
        raise InvalidArgument(
            f"`{option}` must be a list of layer names or of pairs (student's layer, teacher's layer), "
            f"received {given!r}."
        )
    return tuple(pairs)


def _loss(given: Any) -> Any:
    if given in ("auto", "kl_divergence"):
        return given
    try:
        loss = keras.losses.get(given)
    except ValueError:
        loss = None
    if not callable(loss):
        raise InvalidArgument(
            f"`loss` must be 'auto', 'kl_divergence', or a Keras loss or its name such as 'mse', received {given!r}."
        )
    return given if isinstance(given, str) else loss
