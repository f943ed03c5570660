"""Vision transformer."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from tfbig.errors import InvalidArgument, check_count
from tfbig.models.arguments import check_image_shape
from tfbig.models.transformer import ClassToken, PositionEmbedding, check_encoder, encoder_block


def build(
    *,
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    patch: int = 4,
    width: int = 128,
    depth: int = 6,
    heads: int = 4,
    mlp: int = 256,
    dropout: float = 0.0,
    output_activation: str | None = "softmax",
    name: str = "vit",
) -> keras.Model:
    """A vision transformer: the image is cut into patches, and a class token gathers what they say.

    ViT-B/16 is `input_shape=(224, 224, 3), patch=16, width=768, depth=12, heads=12, mlp=3072`.

    Args:
        input_shape: `(height, width, channels)`; height and width are multiples of `patch`.
        classes: number of outputs, >= 1.
        patch: side of a patch in pixels.
        width: width of each patch's vector, a multiple of `heads`.
        depth: encoder blocks.
        heads: attention heads of each block.
        mlp: hidden width of each block's perceptron.
        dropout: share dropped in training after attention and perceptron, in [0, 1).
        output_activation: "softmax", "sigmoid", or None for logits; kept in float32.

    Returns:
        A Functional model from `(batch, height, width, channels)` to `(batch, classes)`.

    Raises:
        InvalidArgument: a value out of range.

    Reference:
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, equations 1 to 4.
    """
    check_image_shape(input_shape)
    check_count("classes", classes)
    check_count("patch", patch)
    check_encoder(width=width, depth=depth, heads=heads, mlp=mlp, dropout=dropout)
    rows, columns = input_shape[0] // patch, input_shape[1] // patch
    if (rows * patch, columns * patch) != tuple(input_shape[:2]):
        raise InvalidArgument(
            "`input_shape` must be a multiple of `patch` in height and width, received "
            f"{tuple(input_shape)} and "
            f"patch={patch}."
        )
    inputs = keras.Input(tuple(input_shape), name="image")
    x = layers.Conv2D(width, patch, strides=patch, name="patches")(inputs)
    x = layers.Reshape((rows * columns, width), name="sequence")(x)
    x = PositionEmbedding(name="position")(ClassToken(name="class_token")(x))
    for block in range(1, depth + 1):
        x = encoder_block(x, heads=heads, mlp=mlp, dropout=dropout, name=f"block{block}")
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = layers.Cropping1D((0, rows * columns), name="class_row")(x)
    x = layers.Flatten(name="class_vector")(x)
    outputs = layers.Dense(classes, activation=output_activation, dtype="float32", name="classifier")(x)
    return keras.Model(inputs, outputs, name=name)
