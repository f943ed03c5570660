"""Recurrent classifiers."""

from __future__ import annotations

import keras
from keras import layers

from benchmarks.zoo.registry import entry


@entry("recurrent")
def lstm() -> keras.Model:
    inputs = keras.Input((10, 6))
    x = layers.LSTM(8, return_sequences=True)(inputs)
    x = layers.LSTM(8)(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="lstm")


@entry("recurrent")
def gru() -> keras.Model:
    tokens = keras.Input((10,), dtype="int32")
    x = layers.Embedding(16, 8, mask_zero=True)(tokens)
    x = layers.GRU(8)(x)
    return keras.Model(tokens, layers.Dense(4, activation="softmax")(x), name="gru")


@entry("recurrent")
def bidirectional() -> keras.Model:
    inputs = keras.Input((10, 6))
    x = layers.Conv1D(8, 3, padding="same", activation="relu")(inputs)
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(x)
    x = layers.Bidirectional(layers.GRU(6))(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="bidirectional")


@entry("recurrent")
def conv_lstm() -> keras.Model:
    inputs = keras.Input((4, 8, 8, 2))
    x = layers.ConvLSTM2D(8, 3, padding="same")(inputs)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="conv_lstm")


@entry("recurrent")
def frames() -> keras.Model:
    """A small convolutional network on every picture of a sequence, and a GRU behind it."""
    inputs = keras.Input((4, 12, 12, 3))
    picture = keras.Sequential([layers.Conv2D(8, 3, activation="relu"), layers.GlobalAveragePooling2D()])
    x = layers.GRU(8)(layers.TimeDistributed(picture)(inputs))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="frames")
