"""Which engine does a technique: our own on Keras 3, or TFMOT."""

from __future__ import annotations

from typing import Any

import keras

from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.prepared import NativeTechnique
from tfbig.compression.technique import Engine
from tfbig.compression.tfmot.bridged import bridged_layer
from tfbig.compression.tfmot.toolkit import is_tf_keras


class TwoEngines(NativeTechnique):
    """A technique that both engines do: `engine` says which, "auto" by the kind of model.

    TFMOT and tf_keras are imported when they are asked for, not before.
    """

    engine: Engine

    def prepare(self, model: Any) -> Any:
        """Returns a copy of `model` that trains under this technique; of tf_keras for a tf_keras model."""
        return _wrapping().prepare(self, model) if self._by_tfmot(model) else self.prepare_natively(model)

    def finish(self, model: Any) -> Any:
        """Returns a copy of `model` with the technique's effect written into its weights and its machinery removed."""
        return _wrapping().finish(self, model) if self._by_tfmot(model) else self.finish_natively(model)

    def verify(self, model: Any) -> None:
        """Raises `InvariantBroken` unless the finished `model` has what the technique promises."""
        if is_tf_keras(model) or bridged_layer(model) is not None:
            _wrapping().verify(self, model)
        else:
            self.verify_natively(model)

    def prepare_natively(self, model: keras.Model) -> keras.Model:
        """`prepare` on Keras 3 itself."""
        return NativeTechnique.prepare(self, model)

    def finish_natively(self, model: keras.Model) -> keras.Model:
        """`finish` on Keras 3 itself."""
        return NativeTechnique.finish(self, model)

    def verify_natively(self, model: keras.Model) -> None:
        """`verify` on a Keras 3 model."""

    def reached(self, kernels: list[Kernel], model: keras.Model) -> list[Kernel]:
        """Those of the model's kernels that the engine works on; TFMOT leaves some alone, such as depthwise ones."""
        if self.engine != "tfmot":
            return kernels
        both = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Bidirectional)]
        wrapped = {id(cell) for layer in both for cell in layer._flatten_layers()}
        kinds = ["Bidirectional" if id(k.layer) in wrapped else type(k.layer).__name__ for k in kernels]
        return [k for k, kind in zip(kernels, kinds, strict=True) if _wrapping().takes(self, kind, k.attribute)]

    def _by_tfmot(self, model: Any) -> bool:
        if self.engine != "auto":
            return self.engine == "tfmot"
        return is_tf_keras(model) or bridged_layer(model) is not None


def _wrapping() -> Any:
    from tfbig.compression.tfmot import wrapping

    return wrapping
