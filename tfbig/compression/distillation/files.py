"""Teachers that are files without Keras layers: LiteRT files and SavedModels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree

from tfbig.compression.distillation import heads
from tfbig.compression.distillation.taps import Shape
from tfbig.errors import InvalidFile, InvalidModel
from tfbig.isolation import run_isolated

_LITERT = "tfbig.compression.distillation.litert"
_PROBES = 32  # random samples from which the kind of output is told


class FileTeacher:
    """What both kinds of file share; the outputs' activations are told from what random inputs give."""

    supports_jit = False

    def __init__(self, path: Path, inputs: Sequence[tf.TensorSpec]):
        self.path, self.name = str(path), path.name
        self.inputs = list(inputs)
        strategy = tf.distribute.get_strategy()
        answers = [
            strategy.experimental_local_results(answer)[0] for answer in strategy.run(self, (_random(self.inputs),))
        ]
        self.output_shapes: list[Shape] = [(None, *answer.shape[1:]) for answer in answers]
        self.activations = [heads.activation_of_values(np.asarray(answer)) for answer in answers]

    def __call__(self, x: Any) -> list[Any]:
        raise NotImplementedError

    def shapes(self) -> list[Shape]:
        return self.output_shapes

    def digest(self) -> str:
        state = hashlib.blake2b(digest_size=16)
        path = Path(self.path)
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            state.update(file.relative_to(path).as_posix().encode() + file.read_bytes())
        return state.hexdigest()

    def ordered(self, x: Any) -> list[Any]:
        """The tensors of `x` in the order of the file's inputs: by name where `x` has names, else by
        position.

        Raises:
            InvalidModel: the file takes another number of inputs.
        """
        names = [spec.name for spec in self.inputs]
        tensors = [x[name] for name in names] if isinstance(x, dict) and set(names) <= set(x) else tree.flatten(x)
        if len(tensors) != len(self.inputs):
            raise InvalidModel(
                f"`teacher` '{self.path}' takes {len(self.inputs)} inputs ({', '.join(names)}), the batch "
                f"has {len(tensors)}. Choose a teacher that takes what the student takes."
            )
        return [
            tf.cast(tensor, spec.dtype) if spec.dtype.is_floating or spec.dtype.is_integer else tensor
            for tensor, spec in zip(tensors, self.inputs, strict=True)
        ]


class LiteRTTeacher(FileTeacher):
    """A `.tflite` file, run by LiteRT in a child process; integer inputs and outputs are (de)quantized."""

    def __init__(self, path: Path):
        self.file = str(path.resolve())  # The child may have been started in another folder.
        inputs, _ = run_isolated(f"{_LITERT}:describe", self.file, worker="interpret")
        specs = [
            tf.TensorSpec((None, *(None if d < 0 else d for d in shape[1:])), dtype, name)
            for name, shape, dtype in inputs
        ]
        super().__init__(path, specs)

    def __call__(self, x: Any) -> list[Any]:
        tensors = self.ordered(x)
        if tf.executing_eagerly():
            return [tf.constant(answer) for answer in self.predict(*tensors)]
        answers = tf.numpy_function(self.predict, tensors, [tf.float32] * len(self.output_shapes))
        for answer, shape in zip(answers, self.output_shapes, strict=True):
            answer.set_shape(shape)
        return list(answers)

    def predict(self, *arrays: Any) -> list[np.ndarray]:
        """The file's outputs, computed in the child process."""
        batch = [np.asarray(array) for array in arrays]
        return run_isolated(f"{_LITERT}:predict", self.file, batch, worker="interpret")


class SavedModelTeacher(FileTeacher):
    """A SavedModel folder, run by its serving signature."""

    def __init__(self, path: Path):
        try:
            self.loaded = tf.saved_model.load(str(path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise InvalidFile(f"`teacher` '{path}' is not a SavedModel that can be read: {error}") from error
        signatures = getattr(self.loaded, "signatures", {})
        if not signatures:
            raise InvalidFile(
                f"`teacher` '{path}' has no serving signature to call. Save it with keras's "
                "model.export(path) or with tf.saved_model.save(..., signatures=...)."
            )
        name = "serving_default" if "serving_default" in signatures else next(iter(signatures))
        self.signature = signatures[name]
        specs = self.signature.structured_input_signature[1]
        if any(spec.shape.rank is None or spec.shape[:1].as_list() != [None] for spec in specs.values()):
            raise InvalidFile(
                f"`teacher` '{path}' takes batches of a fixed size only ({name}: {specs}). Export it with a "
                "free first axis, e.g. with keras's model.export(path)."
            )
        super().__init__(path, [tf.TensorSpec(s.shape, s.dtype, key) for key, s in specs.items()])

    def __call__(self, x: Any) -> list[Any]:
        tensors = self.ordered(x)
        named = {spec.name: tensor for spec, tensor in zip(self.inputs, tensors, strict=True)}
        answers = self.signature(**named)
        return [tf.cast(answers[key], "float32") for key in sorted(answers)]


def _random(inputs: Sequence[tf.TensorSpec]) -> list[tf.Tensor]:
    """A batch of random inputs: unit normal, or 0 and 1 where integers are taken."""
    generator = np.random.default_rng(0)
    shapes = [[_PROBES, *(d or 8 for d in spec.shape[1:])] for spec in inputs]
    return [
        tf.constant(
            generator.normal(size=shape) if spec.dtype.is_floating else generator.integers(0, 2, shape),
            spec.dtype,
        )
        for shape, spec in zip(shapes, inputs, strict=True)
    ]
