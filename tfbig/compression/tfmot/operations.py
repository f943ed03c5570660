"""What Keras 3 computes and tf_keras has no layer for, as a tf_keras layer."""

from __future__ import annotations

import json
from typing import Any

import keras
import tensorflow as tf
import tf_keras
from tf_keras.src.engine.keras_tensor import KerasTensor

_TENSOR = "\x00tensor "  # No argument of an operation begins like this.


@tf_keras.saving.register_keras_serializable(package="tfbig")
class KerasOperation(tf_keras.layers.Layer):
    """Runs a Keras 3 operation, or a layer of Keras's own that tf_keras lacks, on TensorFlow tensors.

    Args:
        operation: the operation's Keras 3 configuration, as JSON; text, because tf_keras would look into a dictionary.
        arguments: the arguments of its one call as JSON, tensors replaced by their position among the layer's inputs.
    """

    def __init__(self, operation: str, arguments: str, **kwargs: Any):
        super().__init__(**kwargs)
        self._operation_config, self._arguments_config = operation, arguments
        restored = keras.saving.deserialize_keras_object(json.loads(operation))
        # tf_keras must not take a Keras 3 layer for one of its own; its variables are taken over in `build`.
        object.__setattr__(self, "operation", restored)
        object.__setattr__(self, "arguments", keras.saving.deserialize_keras_object(json.loads(arguments)))

    def build(self, input_shape: Any) -> None:
        if isinstance(self.operation, keras.layers.Layer):
            if not self.operation.built:
                self.operation.build(tuple(input_shape))
            self._trainable_weights += [v.value for v in self.operation.trainable_weights]
            self._non_trainable_weights += [v.value for v in self.operation.non_trainable_weights]
        super().build(input_shape)

    def call(self, inputs: Any, training: Any = None) -> Any:
        tensors = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
        args, kwargs = keras.tree.map_structure(lambda leaf: _restored(leaf, tensors), tuple(self.arguments))
        if hasattr(self.operation, "finalize_state"):
            self.operation.finalize_state()  # From its weights, which may have been assigned since.
        if getattr(self.operation, "_call_has_training_arg", False):
            kwargs = {**kwargs, "training": bool(tf.get_static_value(training))}
        return self.operation(*args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        settings = {"operation": self._operation_config, "arguments": self._arguments_config}
        return {**super().get_config(), **settings}


def run_operation(operation: Any, name: str, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Puts `operation` into a tf_keras graph: calls it with `args` and `kwargs`, in which tensors are symbolic."""
    tensors: list[Any] = []

    def replaced(leaf: Any) -> Any:
        if not isinstance(leaf, KerasTensor):
            return leaf
        tensors.append(leaf)
        return f"{_TENSOR}{len(tensors) - 1}"

    arguments = keras.tree.map_structure(replaced, (args, kwargs))
    layer = KerasOperation(
        operation=json.dumps(keras.saving.serialize_keras_object(operation)),
        arguments=json.dumps(keras.saving.serialize_keras_object(arguments)),
        name=name,
    )
    return layer(tensors if len(tensors) != 1 else tensors[0])


def _restored(leaf: Any, tensors: list[Any]) -> Any:
    if isinstance(leaf, str) and leaf.startswith(_TENSOR):
        return tensors[int(leaf.removeprefix(_TENSOR))]
    return leaf
