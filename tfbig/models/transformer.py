"""The transformer encoder that the vision and the text builder share."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from tfbig.errors import InvalidArgument, check_count, check_range


@keras.saving.register_keras_serializable(package="tfbig")
class PositionEmbedding(layers.Layer):
    """Adds a learned vector to each position.

    Input shape: `(batch, length, width)`, with a fixed length. Output shape: the same.
    """

    def build(self, input_shape: tuple) -> None:
        self.positions = self.add_weight(shape=tuple(input_shape[1:]), initializer="random_normal", name="positions")
        self.built = True

    def call(self, x: Any) -> Any:
        return x + ops.cast(self.positions, x.dtype)


@keras.saving.register_keras_serializable(package="tfbig")
class ClassToken(layers.Layer):
    """Puts one learned vector before each sequence.

    Input shape: `(batch, length, width)`. Output shape: `(batch, length + 1, width)`.
    """

    def build(self, input_shape: tuple) -> None:
        self.token = self.add_weight(shape=(1, 1, input_shape[-1]), initializer="zeros", name="token")
        self.built = True

    def call(self, x: Any) -> Any:
        token = ops.cast(self.token, x.dtype)
        # Its own row of zeros gives the token the batch size, whatever that is.
        return ops.concatenate([ops.zeros_like(x[:, :1]) + token, x], axis=1)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        length = input_shape[1]
        return (input_shape[0], None if length is None else length + 1, input_shape[2])


def encoder_block(x: keras.KerasTensor, *, heads: int, mlp: int, dropout: float, name: str) -> keras.KerasTensor:
    """One encoder block, normalized before each part: attention, then a two-layer perceptron, each with a shortcut.

    Args:
        x: `(batch, length, width)`; `width` is a multiple of `heads`.
        mlp: width of the perceptron's hidden layer.

    Returns:
        A tensor of the same shape.
    """
    width = x.shape[-1]
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm1")(x)
    attention = layers.MultiHeadAttention(heads, width // heads, dropout=dropout, name=f"{name}_attention")
    x = layers.Add(name=f"{name}_add1")([x, attention(y, y)])
    y = layers.LayerNormalization(epsilon=1e-6, name=f"{name}_norm2")(x)
    y = layers.Dense(mlp, activation="gelu", name=f"{name}_mlp1")(y)
    y = layers.Dense(width, name=f"{name}_mlp2")(y)
    if dropout:
        y = layers.Dropout(dropout, name=f"{name}_dropout")(y)
    return layers.Add(name=f"{name}_add2")([x, y])


def check_encoder(*, width: int, depth: int, heads: int, mlp: int, dropout: float) -> None:
    """Raises `InvalidArgument` for sizes that make no encoder."""
    for name, value in {"width": width, "depth": depth, "heads": heads, "mlp": mlp}.items():
        check_count(name, value)
    if width % heads:
        raise InvalidArgument(f"`width` must be a multiple of `heads`, received width={width} and heads={heads}.")
    check_range("dropout", dropout, 0, 1, closed="left")
