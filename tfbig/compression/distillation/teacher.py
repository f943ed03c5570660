"""Teachers: Keras models, LiteRT files and SavedModels that answer for a batch and are never trained."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from tfbig.compression.distillation import heads, taps
from tfbig.compression.distillation.files import LiteRTTeacher, SavedModelTeacher
from tfbig.compression.distillation.taps import Shape
from tfbig.compression.native.clone import check_keras_model, clone
from tfbig.errors import InvalidArgument, InvalidFile, InvalidModel

Knowledge = dict[str, Any]  # {"outputs": for each teacher its outputs, "features": {layer: tensor}}


class Source(Protocol):
    """One teacher, wherever it comes from."""

    name: str
    supports_jit: bool
    activations: list[heads.Activation]

    @property
    def path(self) -> str | None: ...  # where it was read from, if it was

    def __call__(self, x: Any) -> list[Any]: ...

    def shapes(self) -> list[Shape]: ...

    def digest(self) -> str: ...


@dataclasses.dataclass
class KerasTeacher:
    """A Keras model, called with `training=False`: its weights, BatchNorm statistics and flags stay as they
    are.

    Args:
        model: the teacher.
        path: the file it comes from, if it does.
    """

    model: keras.Model
    path: str | None = None

    def __post_init__(self) -> None:
        check_keras_model(self.model)
        self.name = self.model.name
        self.supports_jit = all(layer.supports_jit for layer in self.model._flatten_layers())
        self.activations = heads.activations(self.model) or ["unknown"] * len(self.shapes())

    def __call__(self, x: Any) -> list[Any]:
        # In this scope an assignment is noted, not carried out.
        with keras.StatelessScope() as scope:
            answers = self.model(x, training=False)
        changed = [v for v in self.model.variables if scope.get_current_value(v) is not None]
        if changed:
            raise InvalidModel(
                f"`teacher` '{self.name}' is in training mode: called with training=False, it still changes "
                f"{_owners(self.model, changed)}. Rebuild it without training=True (or stateful=True) in its "
                "layers' calls."
            )
        return tree.flatten(answers)

    def shapes(self) -> list[Shape]:
        if getattr(self.model, "outputs", None):
            return [tuple(t.shape) for t in tree.flatten(self.model.outputs)]
        return taps.trace(self.model)[0]

    def digest(self) -> str:
        state = hashlib.blake2b(digest_size=16)
        for layer in taps.inner_layers(self.model):
            state.update(f"{type(layer).__name__} {layer.name}".encode())
        for weight in self.model.weights:
            state.update(np.ascontiguousarray(keras.ops.convert_to_numpy(weight)).tobytes())
        return state.hexdigest()


class Teacher:
    """One or several teachers, and the layers of the first one that a student wants to see.

    Args:
        given: a Keras 3 model, a path (`.keras`, `.h5`, `.tflite`, a SavedModel folder), or several of these.
        weights: what each teacher counts; scaled to sum 1. Equal unless given.
        layers: names of the first teacher's layers that are asked for.
        copy: ask frozen copies of the models, for a model that is going to hold them.

    Raises:
        InvalidArgument: something that is neither model nor path; weights that do not fit; an unknown layer.
        InvalidFile: a path that does not exist, or is no model.
    """

    trainable = False

    def __init__(
        self, given: Any, weights: Sequence[float] | None = None, layers: Sequence[str] = (), *, copy: bool = False
    ):
        self.sources: list[Source] = [_source(one, copy) for one in several(given)]
        self.weights = normalised(weights, len(self.sources))
        self.layers = tuple(dict.fromkeys(layers))
        if self.layers and not isinstance(self.sources[0], KerasTeacher):
            raise InvalidArgument(
                "`features` and `attention` need the layers of a Keras model, but teacher "
                f"'{self.sources[0].name}' is a file without them. Give the `.keras` file or the model "
                "itself."
            )
        for name in self.layers:
            taps.find(self.models[0], name)

    @property
    def name(self) -> str:
        return ", ".join(source.name for source in self.sources)

    @property
    def models(self) -> list[keras.Model]:
        """The Keras models among the teachers."""
        return [source.model for source in self.sources if isinstance(source, KerasTeacher)]

    @property
    def supports_jit(self) -> bool:
        return all(source.supports_jit for source in self.sources)

    def __call__(self, x: Any) -> Knowledge:
        """What the teachers say to a batch; no gradient flows back."""
        if self.layers:
            with taps.record(self.models[0], self.layers) as found:
                first = self.sources[0](x)
            taps.check_recorded(self.models[0], self.layers, found)
        else:
            first, found = self.sources[0](x), {}
        answers = [first, *(source(x) for source in self.sources[1:])]
        features = {name: found[name] for name in self.layers}
        return tree.map_structure(tf.stop_gradient, {"outputs": answers, "features": features})

    def shapes(self) -> dict[str, Any]:
        """The shapes of what `__call__` gives, in the same structure."""
        features = taps.trace(self.models[0], self.layers)[1] if self.layers else {}
        return {"outputs": [source.shapes() for source in self.sources], "features": features}

    def digest(self) -> str:
        """Changes whenever the teachers, or what is asked of them, change."""
        parts = [*(source.digest() for source in self.sources), *self.layers]
        return hashlib.blake2b(" ".join(parts).encode(), digest_size=16).hexdigest()


def several(given: Any) -> list[Any]:
    """The teachers as a list, whether one or several are given."""
    return list(given) if isinstance(given, list | tuple) else [given]


def check_teachers(given: Any) -> None:
    """Raises unless every teacher is a Keras 3 model or the path of a model that exists; loads nothing."""
    if isinstance(given, list | tuple) and not given:
        raise InvalidArgument("`teacher` must be one model or path, or several, received none.")
    for one in several(given):
        if isinstance(one, str | os.PathLike):
            _check_path(Path(one))
        elif not isinstance(one, keras.Model):
            raise InvalidArgument(
                "`teacher` must be a Keras 3 model or a path to a .keras, .h5 or .tflite file or a "
                f"SavedModel folder, received {type(one).__module__}.{type(one).__name__}. tfbig.load(path) "
                "turns model files of other Keras versions into Keras 3 models."
            )


def normalised(weights: Sequence[float] | None, count: int) -> list[float]:
    """The weights of `count` teachers, scaled to sum 1.

    Raises:
        InvalidArgument: not one weight for each teacher, a negative one, or all zero.
    """
    if weights is None:
        return [1 / count] * count
    if len(weights) != count or min(weights) < 0 or sum(weights) <= 0:
        raise InvalidArgument(
            f"`teacher_weights` must hold one weight of at least 0 for each of the {count} teachers, and "
            f"not all 0, received {list(weights)}."
        )
    return [weight / sum(weights) for weight in weights]


def check_fit(student: keras.Model, teacher: Teacher, shapes: list[Shape]) -> None:
    """Raises `InvalidModel` unless every teacher takes the student's inputs and gives outputs like the
    student's.

    Args:
        shapes: the shapes of the student's outputs.
    """
    for source in teacher.sources:
        model = getattr(source, "model", None)
        theirs, ours = input_shapes(model), input_shapes(student)
        if theirs and ours and not compatible(theirs, ours):
            raise InvalidModel(
                f"`teacher` '{source.name}' takes inputs of shape {shapes_text(theirs)}, the student "
                f"'{student.name}' {shapes_text(ours)}; one batch must serve both. Put what differs into the "
                "teacher, e.g. keras.Sequential([keras.Input(student_shape), keras.layers.Resizing(height, "
                "width), teacher])."
            )
        if not compatible(source.shapes(), shapes):
            raise InvalidModel(
                f"`teacher` '{source.name}' gives outputs of shape {shapes_text(source.shapes())}, the student "
                f"'{student.name}' {shapes_text(shapes)}; they must be equal. Choose a teacher trained on the "
                "same classes."
            )


def _source(given: Any, copy: bool) -> Source:
    check_teachers(given)
    if isinstance(given, keras.Model):
        return KerasTeacher(_frozen_copy(given) if copy else given)
    path = Path(given)
    if path.is_dir():
        return SavedModelTeacher(path)
    if path.suffix == ".tflite":
        return LiteRTTeacher(path)
    from tfbig.models.load import load

    return KerasTeacher(load(path), str(given))


def _owners(model: keras.Model, variables: list[keras.Variable]) -> str:
    """The innermost layers that hold the variables."""
    layers = [model, *taps.inner_layers(model)]
    owners = [[layer.name for layer in layers if any(v is own for own in layer.variables)][-1] for v in variables]
    return ", ".join(dict.fromkeys(owners))


def _frozen_copy(model: keras.Model) -> keras.Model:
    copy = clone(model)
    copy.trainable = False
    return copy


def _check_path(path: Path) -> None:
    if not path.exists():
        raise InvalidFile(f"`teacher` '{path}' does not exist. Give the path of a trained model.")
    is_saved_model = path.is_dir() and (path / "saved_model.pb").exists()
    if not is_saved_model and path.suffix not in (".keras", ".h5", ".hdf5", ".tflite"):
        raise InvalidFile(
            f"`teacher` '{path}' is not a model: expected a .keras, .h5 or .tflite file, or a SavedModel "
            "folder (one with a saved_model.pb)."
        )


def input_shapes(model: keras.Model | None) -> list[Shape]:
    """The shapes of a model's inputs; empty where Keras does not record them."""
    return [tuple(t.shape) for t in tree.flatten(getattr(model, "inputs", None) or [])]


def compatible(first: list[Shape], second: list[Shape]) -> bool:
    """Whether shapes agree, free axes with any size."""
    if [len(shape) for shape in first] != [len(shape) for shape in second]:
        return False
    sizes = zip(tree.flatten(first), tree.flatten(second), strict=True)
    return all(a == b or a is None or b is None for a, b in sizes)


def shapes_text(shapes: list[Shape]) -> str:
    """Shapes as a message shows them."""
    return ", ".join(str(shape) for shape in shapes)
