"""Models of Keras 2, each with something that Keras 3 changed, and weights that show a misplaced one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers


def stacked(*parts: tf_keras.layers.Layer, shape: tuple) -> tf_keras.Model:
    return tf_keras.Sequential([tf_keras.Input(shape), *parts])


def depthwise() -> tf_keras.Model:
    return stacked(
        layers.Conv2D(4, 3, name="block/conv"),
        layers.BatchNormalization(name="block/conv/bn"),
        layers.DepthwiseConv2D(3, kernel_initializer=tf_keras.initializers.RandomNormal()),
        layers.ReLU(6.0),
        layers.SeparableConv2D(4, 3, depth_multiplier=2),
        layers.LeakyReLU(0.2),
        layers.Conv2DTranspose(3, 2, strides=2),
        layers.ThresholdedReLU(0.3),
        layers.SpatialDropout2D(0.1),
        layers.Softmax(axis=[1, 2]),
        layers.Flatten(),
        layers.Dense(3, activation="hard_sigmoid", kernel_regularizer="l2"),
        shape=(10, 10, 3),
    )


def nested_and_shared() -> tf_keras.Model:
    inner = stacked(layers.Conv2D(4, 3), layers.BatchNormalization(), shape=(8, 8, 3))
    image = tf_keras.Input((8, 8, 3), name="the/image")
    first, second = inner(image), inner(layers.Rescaling(0.5)(image))
    middle = tf_keras.Input((6, 6, 8))
    split = tf_keras.Model(middle, [layers.Conv2D(3, 1)(middle), layers.DepthwiseConv2D(3, padding="same")(middle)])
    joined = layers.Concatenate()(split(layers.Concatenate()([first, second])))
    shared = layers.Conv2D(4, 1)
    total = layers.Add()([shared(first), shared(second)])
    return tf_keras.Model(image, [layers.GlobalAveragePooling2D()(joined), layers.Flatten()(total)])


def frozen() -> tf_keras.Model:
    model = nested_and_shared()
    inner = next(layer for layer in model.layers if isinstance(layer, tf_keras.Sequential))
    inner.layers[0].trainable = False
    return model


def uneven_branches() -> tf_keras.Model:
    left, right = tf_keras.Input((6,)), tf_keras.Input((6,))
    u, v = tf_keras.Input((6,)), tf_keras.Input((6,))
    inner = tf_keras.Model([u, v], layers.Subtract()([layers.Dense(6)(layers.Dense(6)(u)), layers.Dense(6)(v)]))
    deep = layers.Dense(6)(layers.Dense(6)(layers.Dense(6)(left)))
    return tf_keras.Model([left, right], layers.PReLU()(inner([deep, layers.Dense(6)(right)])))


def recurrent() -> tf_keras.Model:
    series = tf_keras.Input((5, 3))
    _, *state = layers.LSTM(4, return_state=True, recurrent_activation="hard_sigmoid")(series)
    x = layers.LSTM(4, return_sequences=True)(series, initial_state=state)
    x = layers.Bidirectional(layers.GRU(3, reset_after=False, return_sequences=True))(x)
    x = layers.RNN([layers.LSTMCell(3), layers.GRUCell(2)], return_sequences=True)(x)
    return tf_keras.Model(series, layers.TimeDistributed(layers.Dense(2))(x))


def over_time() -> tf_keras.Model:
    inner = stacked(layers.Conv2D(2, 3), layers.GlobalMaxPooling2D(), shape=(5, 5, 1))
    return stacked(layers.TimeDistributed(inner), layers.SimpleRNN(2), shape=(3, 5, 5, 1))


def attention() -> tf_keras.Model:
    x = series = tf_keras.Input((6, 8))
    x = layers.LayerNormalization()(layers.MultiHeadAttention(2, 4)(x, x) + series)
    return tf_keras.Model(series, layers.LayerNormalization(axis=[1, 2])(layers.Attention()([x, series])))


def raw_operations() -> tf_keras.Model:
    series = tf_keras.Input((6, 4))
    x = tf.concat([tf.nn.relu6(series * 2.0 - 1.0), series], axis=-1)
    x = tf.transpose(tf.reduce_sum(x, axis=1, keepdims=True), [0, 2, 1])
    x = tf.math.sqrt(tf.abs(tf.reshape(x, [-1, 8])) + 1.0) / 3.0
    x = layers.Multiply(name="multiply")([tf.expand_dims(x, 1)[:, 0, 2:], x[:, :6]])
    first, second = tf.split(1.0 - tf.maximum(x, 0.1) ** 2.0, 2, axis=-1)
    return tf_keras.Model(series, tf.stack([first, second], axis=1))


def normalized() -> tf_keras.Model:
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).normal(3.0, 2.0, (50, 4)))
    return stacked(layer, layers.Dense(2), shape=(4,))


def mixed_precision() -> tf_keras.Model:
    tf_keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return stacked(layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(2, dtype="float32"), shape=(6, 6, 1))
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")


OLD_MODELS: dict[str, Callable[[], tf_keras.Model]] = {
    make.__name__: make
    for make in (
        depthwise,
        nested_and_shared,
        frozen,
        uneven_branches,
        recurrent,
        over_time,
        attention,
        raw_operations,
        normalized,
        mixed_precision,
    )
}


def old_model(name: str) -> tf_keras.Model:
    """The model by name, its weights all different and its variances positive."""
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(3)
    model = OLD_MODELS[name]()
    random = np.random.default_rng(1)
    model.set_weights([_moved(weight, random) for weight in model.get_weights()])
    return model


def _moved(weight: np.ndarray, random: np.random.Generator) -> np.ndarray:
    noise = np.abs(random.normal(0.1, 0.05, weight.shape))
    return (weight + noise).astype(weight.dtype) if weight.dtype.kind == "f" else weight


def inputs_of(model: tf_keras.Model, batch: int = 3) -> list[np.ndarray]:
    random = np.random.default_rng(2)
    return [random.uniform(-1, 1, (batch, *tensor.shape[1:])).astype("float32") for tensor in model.inputs]


def difference(ours, theirs, inputs: list[np.ndarray]) -> float:
    """The largest difference between the outputs of two models, relative to the largest output."""
    feed = inputs if len(inputs) > 1 else inputs[0]
    got, wanted = tf.nest.flatten(ours(feed)), tf.nest.flatten(theirs(feed))
    assert [tuple(t.shape) for t in got] == [tuple(t.shape) for t in wanted]
    pairs = [(np.asarray(g, "float64"), np.asarray(w, "float64")) for g, w in zip(got, wanted, strict=True)]
    return max(float(np.abs(g - w).max() / np.abs(w).max()) for g, w in pairs)
