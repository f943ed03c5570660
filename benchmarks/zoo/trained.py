"""Small nets that are trained on real data, for what random weights cannot show: the accuracy after rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import layers

import tfbig

_LENGTH, _VOCABULARY = 48, 3000  # tokens of a message
_IMAGE, _IMAGES = (28, 28, 1), 8_000  # of the 60,000 to train on: what is asked here is what rounding costs


@dataclasses.dataclass(frozen=True)
class Net:
    """A net, the data that it learns, and for how long."""

    build: Callable[[], keras.Model]
    data: str  # "digits", "images" or "messages"
    epochs: int
    is_depthwise: bool = False


def data_of(kind: str, messages: Path | None, seed: int) -> Any:
    """What `tfbig.data.load` gives: scikit-learn's digits, Fashion-MNIST, or lines of label and text as token ids."""
    if kind == "digits":
        return tfbig.data.load("digits", batch_size=64, seed=seed)
    if kind == "images":
        (x, y), test = keras.datasets.fashion_mnist.load_data()
        splits = SimpleNamespace(train=_scaled(x[:_IMAGES], y[:_IMAGES]), validation=None, test=_scaled(*test))
        return tfbig.data.load(splits, batch_size=128, seed=seed)
    texts = tfbig.data.load(f"text:{messages}", batch_size=64, seed=seed)
    return tfbig.data.Tokenizer.fit(texts.train, size=_VOCABULARY, length=_LENGTH).applied_to(texts)


def mobilenet_v2() -> keras.Model:
    """Inverted residuals: wide depthwise layers with relu6 between narrow linear ones."""
    inputs = keras.Input(_IMAGE)
    x = _normalized(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(inputs))
    for filters, strides in ((16, 1), (24, 2), (24, 1), (32, 1)):
        y = _normalized(layers.Conv2D(4 * x.shape[-1], 1, use_bias=False)(x))
        y = _normalized(layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(y))
        y = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(y))
        x = layers.Add()([x, y]) if x.shape == y.shape else y
    x = layers.GlobalAveragePooling2D()(_normalized(layers.Conv2D(96, 1, use_bias=False)(x)))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="mobilenet_v2")


def separable() -> keras.Model:
    """Separable convolutions without a normalization between their halves."""
    inputs = keras.Input(_IMAGE)
    x = layers.Conv2D(16, 3, strides=2, padding="same", activation="relu")(inputs)
    for filters, strides in ((32, 1), (48, 2), (64, 1)):
        x = layers.SeparableConv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="separable")


def conv1d() -> keras.Model:
    """The image as a sequence of 28 rows."""
    inputs = keras.Input(_IMAGE)
    x = layers.Reshape((28, 28))(inputs)
    for filters, strides in ((48, 1), (64, 2), (64, 2)):
        x = layers.Conv1D(filters, 5, strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Dense(64, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x), name="conv1d")


def _built(name: str, **config: Any) -> Callable[[], keras.Model]:
    return lambda: tfbig.models.build(name, **config)


NETS: dict[str, Net] = {
    "mlp": Net(_built("mlp", input_shape=(8, 8, 1), units=(64, 64)), "digits", 10),
    "resnet_8": Net(_built("resnet", depth=8, input_shape=_IMAGE, width=0.5, weight_decay=0.0), "images", 3),
    "mobilenet": Net(
        _built("mobilenet", input_shape=_IMAGE, filters=(16, 32, 64, 64, 96), strides=(2, 1, 2, 1, 1)),
        *("images", 3, True),
    ),
    "mobilenet_v2": Net(mobilenet_v2, "images", 3, is_depthwise=True),
    "separable": Net(separable, "images", 3, is_depthwise=True),
    "conv1d": Net(conv1d, "images", 3),
    "vit": Net(_built("vit", input_shape=_IMAGE, patch=7, width=48, depth=2, heads=3, mlp=96), "images", 4),
    "text_classifier": Net(
        _built("text_classifier", vocabulary=_VOCABULARY, length=_LENGTH, width=32, depth=1, heads=2, mlp=64),
        *("messages", 4),
    ),
}


def _normalized(x: keras.KerasTensor) -> keras.KerasTensor:
    return layers.ReLU(6.0)(layers.BatchNormalization()(x))


def _scaled(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images[..., None].astype("float32") / 255, labels
