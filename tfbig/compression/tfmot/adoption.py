"""A tf_keras model as a layer of a Keras 3 model, which trains tf_keras's own variables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf


class AdoptedVariable(keras.Variable):
    """A Keras 3 variable around a `tf.Variable` that somebody else made: both are the same memory.

    Args:
        variable: what it is around; under a distribution strategy the distributed variable.
        trainable: whether optimizers change it.
        path: its name in the model, with slashes.
    """

    def __init__(self, variable: tf.Variable, *, trainable: bool, path: str):
        self._adopted = variable
        super().__init__(
            initializer=_never_called,
            shape=variable.shape,
            dtype=variable.dtype.name,
            trainable=trainable,
            autocast=False,
            name=path.rsplit("/", 1)[-1],
        )
        self._path = path
        self.constraint = getattr(variable, "constraint", None)

    def _initialize_with_initializer(self, initializer: Any) -> None:
        self._value = self._adopted


def _never_called(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("An adopted variable has its value already.")


class TfKerasLayer(keras.layers.Layer):
    """Runs a tf_keras model inside a Keras 3 model, whose optimizer trains it.

    The variables of the tf_keras model are those of this layer, one attribute each, under their tf_keras paths.

    Args:
        inner: the tf_keras model, built, with a flat list of inputs and of outputs.
        untrained: variables of the inner model that it assigns itself although tf_keras calls them trainable.
    """

    def __init__(self, inner: Any, *, untrained: Sequence[tf.Variable] = (), **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_jit = False  # TFMOT sorts, asserts and assigns in the forward pass.
        # tf_keras objects are none of Keras 3's business: it would track and copy them.
        object.__setattr__(self, "inner", inner)
        fixed = {id(v) for v in untrained}
        trainable = {id(v) for v in inner.trainable_weights} - fixed
        for path, variable in _paths(inner):
            setattr(
                self, path, AdoptedVariable(variable, trainable=id(variable) in trainable, path=f"{self.name}/{path}")
            )
        self.built = True

    @property
    def activation(self) -> Callable | None:
        """The Keras 3 activation behind the first output, by which a loss may be chosen; None if there is none."""
        layer = self.inner.outputs[0]._keras_history.layer
        layer = getattr(layer, "layer", layer)
        function = getattr(layer, "activation", None)
        function = getattr(function, "activation", function)
        return getattr(keras.activations, getattr(function, "__name__", type(layer).__name__.lower()), None)

    def call(self, inputs: Any, training: bool = False) -> Any:
        outputs = self.inner(inputs, training=training)
        for loss in self.inner.losses:
            self.add_loss(loss)
        return outputs

    def compute_output_spec(self, inputs: Any, training: bool = False) -> Any:
        # The batch of the inputs, the shapes of the model: nothing of it runs, so nothing of it is changed.
        batch = keras.tree.flatten(inputs)[0].shape[0]
        specs = [keras.KerasTensor((batch, *y.shape[1:]), y.dtype.name) for y in self.inner.outputs]
        return specs if len(specs) > 1 else specs[0]


def as_keras(model: Any, layer: TfKerasLayer | None = None) -> keras.Model:
    """A tf_keras model as a Keras 3 model with the same variables.

    Args:
        layer: what runs the model; without it a plain `TfKerasLayer`, for what only reads the model.
    """
    inputs = [keras.Input(batch_shape=tuple(x.shape), dtype=x.dtype.name, name=x.name) for x in model.inputs]
    layer = layer or TfKerasLayer(model, name="tf_keras")
    return keras.Model(inputs, layer(inputs if len(inputs) > 1 else inputs[0]), name=model.name)


def adopted_layer(model: Any) -> TfKerasLayer | None:
    """The layer that runs a tf_keras model inside a Keras 3 model, however deep."""
    found = model._flatten_layers() if isinstance(model, keras.Model) else []
    return next((layer for layer in found if isinstance(layer, TfKerasLayer)), None)


def _paths(model: Any) -> list[tuple[str, tf.Variable]]:
    """Every variable of a tf_keras model once, with a path that is unique and stays the same in a copy."""
    found: dict[str, tf.Variable] = {}
    seen: set[int] = set()
    for layer in model._flatten_layers(include_self=False, recursive=False):
        for variable in layer.weights:
            if id(variable) in seen:
                continue
            seen.add(id(variable))
            path = f"{layer.name}/{variable.name.split(':')[0].rsplit('/', 1)[-1]}"
            numbered = (f"{path}_{i}" for i in range(1, len(found) + 2))
            found[path if path not in found else next(p for p in numbered if p not in found)] = variable
    return list(found.items())
