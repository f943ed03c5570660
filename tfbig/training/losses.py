"""The loss that fits a model's outputs, and label smoothing for class ids."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from tfbig.errors import InvalidModel, check_range, unknown


@keras.saving.register_keras_serializable(package="tfbig")
class SmoothedSparseCategoricalCrossentropy(keras.losses.Loss):
    """Cross-entropy with class ids whose target keeps `1 - smoothing` on the class and spreads the rest evenly.

    Args:
        smoothing: share of the target that is spread over all classes, in [0, 1).
        from_logits: whether the outputs are logits and not probabilities.

    Call arguments:
        y_true: class ids, `(batch, ...)` or `(batch, ..., 1)`.
        y_pred: scores, `(batch, ..., classes)`.

    Reference:
        Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, section 7.
    """

    def __init__(
        self,
        smoothing: float = 0.1,
        from_logits: bool = False,
        reduction: str = "sum_over_batch_size",
        name: str = "smoothed_sparse_categorical_crossentropy",
        dtype: str | None = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        check_range("smoothing", smoothing, 0, 1, closed="left")
        self.smoothing, self.from_logits = smoothing, from_logits

    def call(self, y_true: Any, y_pred: Any) -> Any:
        exact = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=self.from_logits)
        if self.from_logits:
            log_scores = ops.log_softmax(y_pred, axis=-1)
        else:
            total = ops.sum(y_pred, axis=-1, keepdims=True)
            log_scores = ops.log(ops.clip(y_pred / total, keras.config.epsilon(), 1.0))
        return (1.0 - self.smoothing) * exact - self.smoothing * ops.mean(log_scores, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "smoothing": self.smoothing, "from_logits": self.from_logits}


def check_loss(name: str | None) -> None:
    """Raises `InvalidArgument` unless Keras has a loss of that name."""
    try:
        keras.losses.get(name)
    except ValueError as error:
        others = ("get", "serialize", "deserialize")
        known = [loss for loss in dir(keras.losses) if loss.islower() and loss[0] != "_" and loss not in others]
        raise unknown("loss", name, known) from error


def fitting_loss(
    model: keras.Model, y_spec: Any, smoothing: float = 0.0, labels: Callable[[], Any] | None = None
) -> tuple[Any, list[Any]]:
    """Chooses loss and metrics from the model's output and the labels.

    Labels against one sigmoid: binary cross-entropy. Whole-number labels against one other output: the same from logits
    if they are 0 and 1, else the mean squared error. Whole-number labels against several outputs: sparse categorical
    cross-entropy, with logits unless the last activation is softmax. Labels with as many non-whole entries as outputs:
    categorical or binary cross-entropy after softmax or sigmoid, else the mean squared error.

    Args:
        y_spec: shape and dtype of a batch of labels.
        smoothing: label smoothing of the cross-entropies, in [0, 1).
        labels: gives some labels, where their type does not say enough.

    Returns:
        The loss and the names of the metrics.

    Raises:
        InvalidModel: several outputs or labels; give `loss` then.
    """
    outputs = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(tf.nest.flatten(y_spec)) != 1:
        raise InvalidModel(
            f"`loss` must be given for model '{model.name}': only one output with one label has an obvious "
            "loss. "
            "Pass loss='mse', a dictionary by output name, or compile the model."
        )
    activation, width = last_activation(model) or _activation_in_values(model), outputs[0].shape[-1]
    (spec,) = tf.nest.flatten(y_spec)
    whole = tf.as_dtype(spec.dtype).is_integer
    per_class = spec.shape.rank == len(outputs[0].shape) and spec.shape[-1] == width
    if width == 1 and (activation == "sigmoid" or (whole and _are_binary(labels))):
        binary = keras.losses.BinaryCrossentropy(from_logits=activation != "sigmoid", label_smoothing=smoothing)
        return binary, [keras.metrics.BinaryAccuracy(name="accuracy", threshold=0.5 if activation == "sigmoid" else 0)]
    if whole and width > 1 and not per_class:
        return _sparse(activation != "softmax", smoothing), ["accuracy"]
    if activation == "softmax":
        return keras.losses.CategoricalCrossentropy(label_smoothing=smoothing), ["accuracy"]
    if activation == "sigmoid":
        return keras.losses.BinaryCrossentropy(label_smoothing=smoothing), ["binary_accuracy"]
    return "mse", ["mae"]


def last_activation(model: keras.Model) -> str | None:
    """The name of the activation that gives the model's first output: "softmax", "sigmoid", ..., or None."""
    outputs = model.outputs
    for machine in getattr(model, "machines", ()):
        if machine.replaces_call:  # A model prepared for integers runs a graph of its own.
            outputs = keras.tree.flatten(machine.graph.outputs)
    layer = outputs[0]._keras_history.operation
    while isinstance(layer, keras.Model):
        layer = layer.outputs[0]._keras_history.operation
    function = getattr(layer, "activation", None)
    if function is not None and function is not keras.activations.linear:
        return getattr(function, "__name__", None)
    kind = type(layer).__name__.lower()
    if kind in ("softmax", "sigmoid"):
        return kind
    if kind in ("reshape", "flatten", "identity", "cast"):
        before = layer._inbound_nodes[0].input_tensors[0]._keras_history.operation
        return getattr(getattr(before, "activation", None), "__name__", None) or type(before).__name__.lower()
    return None


def _activation_in_values(model: keras.Model) -> str | None:
    """ "softmax" if the model's scores for made-up inputs are probabilities, whatever its last operation is."""
    shapes = [tuple(side or 8 for side in tensor.shape) for tensor in model.inputs]
    if any(tensor.dtype == "string" for tensor in model.inputs):
        return None
    random = np.random.default_rng(0)
    made = [random.uniform(size=shape).astype(t.dtype) for shape, t in zip(shapes, model.inputs, strict=True)]
    feed = made[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, made)
    (outputs,) = keras.tree.flatten(model(feed, training=False))
    scores = keras.ops.convert_to_numpy(outputs)
    if scores.shape[-1] > 1 and scores.min() >= 0 and np.allclose(scores.sum(axis=-1), 1.0, atol=1e-3):
        return "softmax"
    return None


def _are_binary(labels: Callable[[], Any] | None) -> bool:
    return labels is None or all(np.isin(np.asarray(part), (0, 1)).all() for part in tf.nest.flatten(labels()))


def _sparse(from_logits: bool, smoothing: float) -> keras.losses.Loss:
    if smoothing:
        return SmoothedSparseCategoricalCrossentropy(smoothing, from_logits)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=from_logits)
