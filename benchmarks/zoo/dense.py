"""Multilayer perceptrons."""

from __future__ import annotations

import keras
from keras import layers

from benchmarks.zoo.registry import entry


@entry("dense")
def mlp() -> keras.Model:
    inputs = keras.Input((20,))
    x = layers.Dense(32, activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.1)(x)
    x = layers.Dense(24)(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="mlp")


@entry("dense")
def autoencoder() -> keras.Model:
    inputs = keras.Input((32,))
    x = layers.Dense(16, activation="tanh")(inputs)
    code = layers.Dense(8, activation="relu", name="code")(x)
    x = layers.Dense(16, activation="selu")(code)
    return keras.Model(inputs, layers.Dense(32, activation="sigmoid")(x), name="autoencoder")
