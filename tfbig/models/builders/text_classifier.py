"""Text classifier: a transformer encoder over token ids."""

from __future__ import annotations

import keras
from keras import layers

from tfbig.errors import check_count
from tfbig.models.transformer import PositionEmbedding, check_encoder, encoder_block


def build(
    *,
    vocabulary: int = 20_000,
    length: int = 200,
    classes: int = 2,
    width: int = 64,
    depth: int = 2,
    heads: int = 4,
    mlp: int = 128,
    dropout: float = 0.1,
    output_activation: str | None = "softmax",
    name: str = "text_classifier",
) -> keras.Model:
    """Classifies a sequence of token ids by the mean of what a transformer encoder makes of it.

    Texts are padded to `length`; padding is a token like any other, whose vector the model learns.

    Args:
        vocabulary: number of token ids, which are 0 to n - 1.
        length: tokens of each text.
        classes: number of outputs, >= 1.
        width: width of each token's vector, a multiple of `heads`.
        depth: encoder blocks.
        heads: attention heads of each block.
        mlp: hidden width of each block's perceptron.
        dropout: share dropped in training after embedding, attention and perceptron, in [0, 1).
        output_activation: "softmax", "sigmoid", or None for logits; kept in float32.

    Returns:
        A Functional model from whole numbers `(batch, length)` to `(batch, classes)`.

    Raises:
        InvalidArgument: a value out of range.

    Reference:
        Vaswani et al., "Attention Is All You Need", NeurIPS 2017 (encoder, here normalized before each part).
    """
    for argument, value in {"vocabulary": vocabulary, "length": length, "classes": classes}.items():
        check_count(argument, value)
    check_encoder(width=width, depth=depth, heads=heads, mlp=mlp, dropout=dropout)
    inputs = keras.Input((length,), dtype="int32", name="tokens")
    x = PositionEmbedding(name="position")(layers.Embedding(vocabulary, width, name="embedding")(inputs))
    if dropout:
        x = layers.Dropout(dropout, name="embedding_dropout")(x)
    for block in range(1, depth + 1):
        x = encoder_block(x, heads=heads, mlp=mlp, dropout=dropout, name=f"block{block}")
    x = layers.LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = layers.GlobalAveragePooling1D(name="pool")(x)
    outputs = layers.Dense(classes, activation=output_activation, dtype="float32", name="classifier")(x)
    return keras.Model(inputs, outputs, name=name)
