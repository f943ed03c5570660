"""Removes channels: what stays, the smaller model that gives, and the same model with the rest masked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import keras
import numpy as np

from tfbig.compression.structure.atoms import Labels
from tfbig.compression.structure.dependency import Dependencies
from tfbig.compression.structure.surgery import Surgery, clone, copy_weights


@dataclasses.dataclass(frozen=True, eq=False)
class Cut:
    """Which channels stay.

    Attributes:
        keep: one flag per channel number of `dependencies`.
    """

    dependencies: Dependencies
    keep: np.ndarray

    def apply(self, model: keras.Model) -> keras.Model:
        """Returns a new model of plain layers with the weights of the channels that stay."""
        surgery = Surgery(lambda old: [clone(old, self._edits(old))], input_shapes=self._input_shapes)
        smaller = surgery.rebuild(model)
        for old, (new,) in surgery.pairs():
            if isinstance(old, keras.Layer):
                copy_weights(old, new, self.slice)
        return smaller

    def mask(self, model: keras.Model) -> keras.Model:
        """Returns a copy of the model with its full widths and zeros in all that `apply` would remove."""
        surgery = Surgery(lambda old: [clone(old)])
        masked = surgery.rebuild(model)
        for old, (new,) in surgery.pairs():
            if isinstance(old, keras.Layer):
                copy_weights(old, new, self._zeroed)
        return masked

    def widths(self) -> dict[str, tuple[int, int]]:
        """Channels before and after of each layer that gets narrower, by the layer's name.

        They are the units of its output, the heads of an attention layer, or the product of both axes of an
        EinsumDense.
        """
        found: dict[tuple[str, int], tuple[int, int]] = {}
        for producer in self.dependencies.producers:
            key = producer.layer.name, id(producer.variable)
            before, after = found.get(key, (1, 1))
            found[key] = before * len(producer.labels), after * self.count(producer.labels)
        narrower = {key: width for key, width in found.items() if width[1] < width[0]}
        return {name: width for (name, _), width in reversed(narrower.items())}

    def kept(self, variable: keras.Variable) -> dict[int, np.ndarray]:
        """For each axis of a weight that gets shorter, the flags of the indices that stay."""
        flags = {axis: self._flags((id(variable), axis)) for axis in range(len(variable.shape))}
        return {axis: keep for axis, keep in flags.items() if keep is not None and not keep.all()}

    def slice(self, variable: keras.Variable) -> np.ndarray:
        """What is left of a weight."""
        value = variable.numpy()
        for axis, keep in self.kept(variable).items():
            value = np.compress(keep, value, axis=axis)
        return value

    def count(self, labels: Labels) -> int:
        """How many of these channels stay."""
        return 0 if labels is None else int(self.keep[labels].sum())

    def _zeroed(self, variable: keras.Variable) -> np.ndarray:
        value = np.array(variable.numpy())
        for axis, keep in self.kept(variable).items():
            np.moveaxis(value, axis, 0)[~keep] = 0
        return value

    def _flags(self, key: tuple[int, int]) -> np.ndarray | None:
        labels = self.dependencies.axes.get(key)
        return None if labels is None else self.keep[labels]

    def _edits(self, operation: keras.Operation) -> dict[str, object]:
        options = self.dependencies.edits.get(id(operation), {})
        cut = {option: edit for option, edit in options.items() if any(map(self._shrinks, edit.axes))}
        return {option: edit.value(self.count) for option, edit in cut.items()}

    def _shrinks(self, labels: Labels) -> bool:
        return labels is not None and not self.keep[labels].all()

    def _input_shapes(self, model: keras.Model) -> Sequence[tuple[int | None, ...]]:
        entered = self.dependencies.entries.get(id(model))
        if entered is None:
            return [tuple(x.shape) for x in model.inputs]
        return [
            tuple(self.count(a) if self._shrinks(a) else n for n, a in zip(x.shape, axes, strict=True))
            for x, axes in zip(model.inputs, entered, strict=True)
        ]
