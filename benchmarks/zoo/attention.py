"""Transformers for images and for text."""

from __future__ import annotations

import keras
from keras import layers, ops

from benchmarks.zoo.registry import entry


@entry("attention")
def vit() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 16))(layers.Conv2D(16, 4, strides=4)(inputs))
    x = LearnedPositions()(x)
    for _ in range(2):
        normal = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 8, dropout=0.1)(normal, normal)])
        y = layers.Dense(32, activation="gelu")(layers.LayerNormalization(epsilon=1e-6)(x))
        x = layers.Add()([x, layers.Dense(16)(y)])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization(epsilon=1e-6)(x))
    return keras.Model(inputs, layers.Dense(6, activation="softmax")(x), name="vit")


@entry("attention")
def bert() -> keras.Model:
    tokens = keras.Input((12,), dtype="int32", name="tokens")
    mask = keras.Input((12,), dtype="int32", name="mask")
    x = LearnedPositions()(layers.Embedding(16, 16, name="words")(tokens))
    x = layers.LayerNormalization()(x)
    visible = ops.expand_dims(ops.cast(mask < 12, "bool"), 1)
    for _ in range(2):
        attended = layers.MultiHeadAttention(2, 8)(x, x, attention_mask=visible)
        x = layers.LayerNormalization()(x + attended)
        y = layers.EinsumDense("abc,cd->abd", output_shape=(None, 32), bias_axes="d", activation="gelu")(x)
        x = layers.LayerNormalization()(x + layers.EinsumDense("abc,cd->abd", output_shape=(None, 16))(y))
    pooled = layers.Dense(16, activation="tanh")(x[:, 0])
    return keras.Model([tokens, mask], layers.Dense(4, activation="softmax")(pooled), name="bert")


@entry("attention")
def causal_decoder() -> keras.Model:
    tokens = keras.Input((12,), dtype="int32", name="tokens")
    embedding = layers.ReversibleEmbedding(16, 16)
    x = layers.RMSNormalization()(embedding(tokens))
    x = x + layers.GroupQueryAttention(8, 2, 1)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization()(x + layers.Attention()([x, x]))
    return keras.Model(tokens, embedding(x, reverse=True), name="causal_decoder")


@keras.saving.register_keras_serializable(package="zoo")
class LearnedPositions(layers.Layer):
    """Adds one trained vector for each place of a sequence."""

    def build(self, input_shape: tuple) -> None:
        self.positions = self.add_weight(shape=input_shape[1:], initializer="random_normal", name="positions")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return x + self.positions
