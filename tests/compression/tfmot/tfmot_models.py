"""Small models of both Keras generations, and data for them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tf_keras

layers = keras.layers


def samples(count: int = 32, *, shape: tuple[int, ...] = (8, 8, 4), targets: int = 10) -> tuple[Any, Any]:
    """Random inputs and targets."""
    rng = np.random.default_rng(0)
    return rng.random((count, *shape), "float32"), rng.random((count, targets), "float32")


def convnet() -> keras.Model:
    """A Keras 3 model with what TFMOT knows best: Conv2D, BatchNormalization, ReLU, a depthwise one, Dense."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(16, 3, padding="same", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, layers.Dense(10, name="dense")(x), name="convnet")


def tf_keras_convnet() -> tf_keras.Model:
    """The same of tf_keras."""
    tf_keras.utils.set_random_seed(0)
    inputs = tf_keras.Input((8, 8, 4), name="image")
    x = tf_keras.layers.Conv2D(16, 3, padding="same", name="conv")(inputs)
    x = tf_keras.layers.BatchNormalization(name="norm")(x)
    x = tf_keras.layers.ReLU(name="relu")(x)
    x = tf_keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = tf_keras.layers.Flatten(name="flatten")(x)
    return tf_keras.Model(inputs, tf_keras.layers.Dense(10, name="dense")(x), name="convnet")


def kernel(model: Any, name: str) -> np.ndarray:
    """The kernel of a layer."""
    return np.asarray(model.get_layer(name).kernel)


def zeros(values: np.ndarray) -> float:
    """The share of zeros."""
    return float(np.mean(values == 0))


def values_of(model: Any) -> list[np.ndarray]:
    """Copies of all weights."""
    return [weight.numpy() for weight in model.weights]


def unchanged(model: Any, before: list[np.ndarray]) -> bool:
    """Whether the weights are what they were."""
    return all(np.array_equal(old, new) for old, new in zip(before, values_of(model), strict=True))
