"""Convolutional networks: one for each kind of block that people build."""

from __future__ import annotations

import keras
from keras import layers

from benchmarks.zoo.registry import entry


@entry("convolutional")
def conv1d() -> keras.Model:
    inputs = keras.Input((32, 4))
    x = layers.Conv1D(8, 5, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.MaxPooling1D(2)(x)
    x = layers.Conv1D(12, 3, padding="causal", dilation_rate=2, activation="relu")(x)
    x = layers.DepthwiseConv1D(3, padding="same")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.AveragePooling1D(2)(x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(inputs, layers.Dense(6, activation="softmax")(x), name="conv1d")


@entry("convolutional")
def unet() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    outer = _normalized(inputs, 8)
    x = layers.MaxPooling2D()(outer)
    inner = _normalized(x, 12)
    x = layers.MaxPooling2D()(inner)
    x = _normalized(x, 16)
    x = layers.Conv2DTranspose(12, 2, strides=2, use_bias=False)(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = _normalized(layers.Concatenate()([x, inner]), 12)
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu")(x)
    x = _normalized(layers.Concatenate()([x, outer]), 8)
    x = layers.UpSampling2D(2, interpolation="bilinear")(layers.AveragePooling2D(2)(x))
    return keras.Model(inputs, layers.Conv2D(4, 1, activation="softmax")(x), name="unet")


@entry("convolutional")
def separable() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = layers.SeparableConv2D(8, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.SeparableConv2D(12, 3, strides=2, activation="relu", depth_multiplier=2)(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.Conv2D(12, 3, groups=3, padding="same", activation="relu")(x)
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, layers.Dense(6, activation="softmax")(x), name="separable")


@entry("convolutional")
def squeeze_excite() -> keras.Model:
    inputs = keras.Input((12, 12, 3))
    x = _normalized(inputs, 16)
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(4, 1, activation="relu")(gate)
    gate = layers.Conv2D(16, 1, activation="hard_sigmoid")(gate)
    x = layers.Multiply()([x, gate])
    squeezed = layers.Dense(4, activation="swish")(layers.GlobalAveragePooling2D()(x))
    gate = layers.Dense(16, activation="sigmoid")(squeezed)
    x = layers.Multiply()([x, layers.Reshape((1, 1, 16))(gate)])
    return keras.Model(inputs, _classifier(x), name="squeeze_excite")


def _activated(name: str, activation: str) -> keras.Model:
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same", activation=activation)(inputs)
    x = layers.Activation(activation)(layers.BatchNormalization()(layers.Conv2D(8, 3, use_bias=False)(x)))
    x = layers.Add()([x, layers.Conv2D(8, 1, activation=activation)(x)])
    return keras.Model(inputs, _classifier(x), name=name)


@entry("convolutional")
def hard_swish() -> keras.Model:
    return _activated("hard_swish", "hard_silu")


@entry("convolutional")
def swish() -> keras.Model:
    return _activated("swish", "swish")


@entry("convolutional")
def gelu() -> keras.Model:
    return _activated("gelu", "gelu")


@entry("convolutional")
def activations() -> keras.Model:
    """One branch for each activation layer that is not a plain relu."""
    inputs = keras.Input((8, 8, 3))
    x = _normalized(inputs, 6)
    found = [
        layers.LeakyReLU(0.1),
        layers.PReLU(alpha_initializer=keras.initializers.RandomUniform(0.05, 0.3, seed=0), shared_axes=[1, 2]),
        layers.ELU(),
        layers.ReLU(4.0),
        layers.ReLU(negative_slope=0.2),
        *(layers.Activation(name) for name in ("selu", "mish", "softplus", "softsign", "relu6", "tanh")),
        layers.Softmax(axis=-1),
    ]
    growth = layers.Activation("exponential")(layers.Activation("tanh")(x))
    branches = [growth] + [activation(layers.Conv2D(4, 1, name=f"branch_{i}")(x)) for i, activation in enumerate(found)]
    return keras.Model(inputs, _classifier(layers.Concatenate()(branches)), name="activations")


@entry("convolutional")
def preactivation_resnet() -> keras.Model:
    inputs = keras.Input((12, 12, 3))
    x = layers.ZeroPadding2D(1)(inputs)
    x = layers.Conv2D(8, 3)(x)
    for filters in (8, 12):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        shortcut = layers.Conv2D(filters, 1, strides=2)(y)
        y = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(y)
        y = layers.ReLU()(layers.BatchNormalization()(y))
        y = layers.Conv2D(filters, 3, padding="same")(y)
        x = layers.Add()([shortcut, y])
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(inputs, _classifier(x), name="preactivation_resnet")


@entry("convolutional")
def group_normalization() -> keras.Model:
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3)(inputs)
    x = layers.ReLU()(layers.GroupNormalization(groups=4)(x))
    x = layers.Conv2D(8, 3)(x)
    x = layers.ReLU()(layers.GroupNormalization(groups=-1)(x))
    return keras.Model(inputs, _classifier(x), name="group_normalization")


@entry("convolutional")
def conv_autoencoder() -> keras.Model:
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(inputs)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Dense(12, activation="relu")(layers.Flatten()(x))
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Reshape((4, 4, 8))(x)
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same")(x)
    x = layers.LeakyReLU(0.2)(layers.BatchNormalization()(x))
    x = layers.UpSampling2D(2)(x)
    return keras.Model(inputs, layers.Conv2D(1, 3, padding="same", activation="sigmoid")(x), name="conv_autoencoder")


@entry("convolutional")
def conv3d() -> keras.Model:
    inputs = keras.Input((8, 8, 8, 2))
    x = layers.Conv3D(4, 3, strides=2, activation="relu")(inputs)
    x = layers.GlobalAveragePooling3D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="conv3d")


@entry("convolutional")
def video() -> keras.Model:
    inputs = keras.Input((6, 12, 12, 2))
    x = layers.Conv3D(8, 3, padding="same", activation="relu")(inputs)
    x = layers.MaxPooling3D()(x)
    x = layers.Conv3D(8, 3, padding="same")(x)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling3D()(x)
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="video")


def _normalized(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _classifier(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.Dense(6, activation="softmax")(layers.GlobalAveragePooling2D()(x))
