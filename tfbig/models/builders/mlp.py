"""Multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from tfbig.errors import check_count, check_range
from tfbig.models.arguments import check_counts


def build(
    *,
    input_shape: Sequence[int] = (1000,),
    classes: int = 10,
    units: Sequence[int] = (1000, 2000, 1000),
    activation: str = "relu",
    dropout: float = 0.0,
    output_activation: str | None = "softmax",
    name: str = "mlp",
) -> keras.Model:
    """A plain multilayer perceptron; the default is the big one, 1000 -> 2000 -> 1000.

    Args:
        input_shape: shape of one sample; anything above rank 1 is flattened.
        classes: number of outputs, >= 1.
        units: width of each hidden layer.
        activation: activation of the hidden layers.
        dropout: share of hidden activations dropped in training, in [0, 1).
        output_activation: "softmax", "sigmoid", or None for logits and for regression; kept in float32.

    Returns:
        A Functional model from `(batch, *input_shape)` to `(batch, classes)`.

    Raises:
        InvalidArgument: a value out of range.

    Reference:
        Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323, 1986.
    """
    check_counts("input_shape", input_shape)
    check_count("classes", classes)
    check_counts("units", units)
    check_range("dropout", dropout, 0, 1, closed="left")

    inputs = x = keras.Input(tuple(input_shape), name="features")
    if len(input_shape) > 1:
        x = layers.Flatten(name="flatten")(x)
    for index, width in enumerate(units, start=1):
        x = layers.Dense(width, activation=activation, name=f"hidden{index}")(x)
        if dropout:
            x = layers.Dropout(dropout, name=f"hidden{index}_dropout")(x)
    outputs = layers.Dense(classes, activation=output_activation, dtype="float32", name="classifier")(x)
    return keras.Model(inputs, outputs, name=name)
