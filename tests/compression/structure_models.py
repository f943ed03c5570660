"""Small models, one for each pattern in which channels hang together, with random weights and statistics."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers, ops

from tfbig.compression.structure.graph import pack_inputs


def randomised(model: keras.Model, seed: int = 0) -> keras.Model:
    """Gives every weight a value that matters, moving statistics and scales included."""
    generator = np.random.default_rng(seed)
    for weight in model.weights:
        value = generator.normal(0.0, 0.3, weight.shape)
        if "variance" in weight.path or "gamma" in weight.path:
            value = generator.uniform(0.5, 1.5, weight.shape)
        weight.assign(value)
    return model


def batch_of(model: keras.Model, samples: int = 3, seed: int = 1) -> list[np.ndarray]:
    """Random inputs; integers below 10 where the model takes integers."""
    generator = np.random.default_rng(seed)
    arrays = []
    for x in model.inputs:
        shape = (samples, *(6 if n is None else n for n in x.shape[1:]))
        if "int" in x.dtype:
            arrays.append(generator.integers(0, 10, shape).astype(x.dtype))
        else:
            arrays.append(generator.normal(size=shape).astype("float32"))
    return arrays


def outputs_of(model: keras.Model, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """All outputs in inference mode, flat."""
    packed = pack_inputs(model, inputs)
    return [np.asarray(value) for value in keras.tree.flatten(model(packed, training=False))]


def convolution(x, filters: int, size: int = 3, strides: int = 1):
    x = layers.Conv2D(filters, size, strides=strides, padding="same", use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def sequential() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Conv2D(24, 3, activation="sigmoid"),
            layers.Flatten(),
            layers.Dense(20, activation="tanh"),
            layers.Dropout(0.5),
            layers.Dense(5, activation="softmax"),
        ]
    )


def residual() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = convolution(inputs, 16)
    x = layers.Add()([x, convolution(convolution(x, 12), 16)])
    shortcut = layers.Conv2D(24, 1, strides=2)(x)
    x = ops.add(shortcut, convolution(convolution(x, 24, strides=2), 24))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4)(x))


def concatenated() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = convolution(inputs, 8)
    for _ in range(3):
        y = layers.Conv2D(8, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
        x = layers.Concatenate()([x, y])
    x = layers.AveragePooling2D(2)(layers.Conv2D(16, 1)(x))
    left, right = layers.Conv2D(8, 1)(x), layers.Conv2D(8, 1)(x)
    x = layers.Add()([x, ops.concatenate([left, right], axis=-1)])
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalMaxPooling2D()(x)))


def inverted_residual() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = convolution(inputs, 8)
    y = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(32, 1)(x)))
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu")(y)
    y = layers.BatchNormalization()(layers.Conv2D(8, 1)(y))
    x = layers.SeparableConv2D(16, 3, activation="swish")(layers.Add()([x, y]))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D(keepdims=True)(x)))


def squeeze_and_excite() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = convolution(inputs, 24)
    s = layers.Reshape((1, 1, 24))(layers.GlobalAveragePooling2D()(x))
    s = layers.Conv2D(24, 1, activation="hard_sigmoid")(layers.Conv2D(8, 1, activation="relu")(s))
    x = layers.Conv2D(16, 1, activation="hard_swish")(layers.Multiply()([x, s]))
    gate = ops.sigmoid(layers.Dense(16)(layers.GlobalAveragePooling2D()(x)))
    x = x * ops.expand_dims(ops.expand_dims(gate, 1), 1) + 1.0
    return keras.Model(inputs, layers.Dense(3)(ops.mean(x, axis=(1, 2))))


def many_groups() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(32, 3, groups=8, activation="relu")(convolution(inputs, 32))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def wide_groups() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(24, 3, groups=2, activation="relu")(convolution(inputs, 32))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def shuffled() -> keras.Model:
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(32, 1, groups=4)(convolution(inputs, 32))
    x = layers.Reshape((4, 4, 4, 8))(x)
    x = layers.Reshape((4, 4, 32))(layers.Permute((1, 2, 4, 3))(x))
    x = layers.Conv2D(16, 1)(layers.DepthwiseConv2D(3)(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def group_normalised() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.GroupNormalization(4)(layers.Conv2D(32, 3)(inputs))
    x = layers.GroupNormalization(-1)(layers.Conv2D(16, 3, activation="gelu")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def up_and_down() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    skip = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(16, 3, padding="same")(inputs))
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="leaky_relu")(skip)
    x = layers.Conv2DTranspose(16, 3, strides=2, padding="same")(x)
    x = layers.Concatenate()([skip, x])
    x = layers.UpSampling2D()(layers.Cropping2D(1)(layers.ZeroPadding2D(1)(x)))
    return keras.Model(inputs, layers.Conv2D(2, 1)(x))


def shared() -> keras.Model:
    left, right = keras.Input((8, 8, 3), name="left"), keras.Input((8, 8, 3), name="right")
    stem, norm, relu = layers.Conv2D(16, 3), layers.BatchNormalization(), layers.ReLU()
    a, b = (relu(norm(stem(x))) for x in (left, right))
    twice = layers.Conv2D(16, 3, padding="same")
    x = layers.Subtract()([twice(twice(a)), b])
    return keras.Model([left, right], layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))


def nested() -> keras.Model:
    backbone_inputs = keras.Input((None, None, 16))
    backbone = keras.Model(backbone_inputs, convolution(convolution(backbone_inputs, 24), 16), name="backbone")
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dense(16, activation="relu")], name="head")
    inputs = keras.Input((8, 8, 3), name="image")
    x = backbone(layers.Conv2D(16, 1)(inputs))
    x = layers.Add()([x, backbone(x)])
    return keras.Model({"image": inputs}, {"a": layers.Dense(3)(head(x)), "b": layers.Dense(2)(head(x))})


def transformer() -> keras.Model:
    inputs = keras.Input((12,), dtype="int32")
    x = layers.Embedding(10, 16, mask_zero=True)(inputs)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 8, value_dim=6)(y, y)])
        y = layers.Dense(32, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(16)(y)])
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def grouped_queries() -> keras.Model:
    inputs = keras.Input((6, 16))
    x = layers.GroupQueryAttention(8, 8, 4, use_gate=True)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def attention_from_operations() -> keras.Model:
    inputs = keras.Input((6, 12))

    def heads(x):
        return ops.transpose(ops.reshape(layers.Dense(32)(x), (-1, 6, 4, 8)), (0, 2, 1, 3))

    query, key, value = heads(inputs), heads(inputs), heads(inputs)
    scores = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))) / 8**0.5)
    x = ops.reshape(ops.transpose(ops.matmul(scores, value), (0, 2, 1, 3)), (-1, 6, 32))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(12)(x) + inputs))


def einsum() -> keras.Model:
    inputs = keras.Input((6, 12))

    def project(x):
        return layers.EinsumDense("abc,cde->abde", output_shape=(None, 4, 8), bias_axes="de")(x)

    query, key, value = project(inputs), project(inputs), project(inputs)
    scores = ops.softmax(ops.einsum("btnh,bsnh->bnts", query, key))
    x = ops.einsum("bnts,bsnh->btnh", scores, value)
    x = layers.EinsumDense("abcd,cde->abe", output_shape=(None, 12), bias_axes="e")(x)
    return keras.Model(inputs, layers.EinsumDense("...x,xy->...y", output_shape=5)(x))


def mixer() -> keras.Model:
    inputs = keras.Input((9, 8))
    y = layers.Permute((2, 1))(layers.LayerNormalization()(inputs))
    y = layers.Dense(9)(layers.Dense(24, activation="gelu")(y))
    x = layers.Add()([inputs, layers.Permute((2, 1))(y)])
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(16, activation="exponential")(x)))


def gated() -> keras.Model:
    inputs = keras.Input((10,))
    a, b = ops.split(layers.Dense(32)(inputs), 2, axis=-1)
    c, d = ops.split(layers.Dense(24)(a * ops.sigmoid(b)), [8], axis=-1)
    total = ops.sum(layers.Dense(16)(c), axis=-1, keepdims=True)
    return keras.Model(inputs, layers.Dense(2)(ops.concatenate([ops.relu(d), total], axis=-1)))


def sequence() -> keras.Model:
    inputs = keras.Input((12, 4))
    x = layers.Conv1D(16, 3, padding="causal", activation="selu")(inputs)
    x = layers.LSTM(8, return_sequences=True)(x)
    x = layers.Conv1D(16, 3, activation="elu")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.GRU(6)(layers.MaxPooling1D(2)(x))))


def padded() -> keras.Model:
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    y = ops.pad(x, [[0, 0], [0, 0], [0, 0], [4, 4]])
    y = ops.where(y > 0.0, y, layers.Conv2D(24, 3, padding="same")(x))
    y = ops.stack([y, layers.Conv2D(24, 1)(y)], axis=-2)
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(16)(y)[:, 1, 1:3, :, :]))


def resized_and_masked() -> keras.Model:
    inputs = keras.Input((6, 6, 4))
    x = ops.image.resize(layers.Conv2D(16, 3, padding="same", activation="relu")(inputs), (4, 4))
    x = layers.Dense(12)(ops.reshape(x, (-1, 16, 16)))
    state = layers.Dense(6, activation="tanh")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(inputs, layers.GRU(6)(layers.Masking()(x), initial_state=state))


def both_directions() -> keras.Model:
    inputs = keras.Input((12, 4))
    x = layers.Dense(24, activation="relu")(inputs)
    x = layers.Attention()([layers.Dense(16)(x), layers.Dense(32)(x), layers.Dense(16)(x)])
    return keras.Model(inputs, layers.Dense(3)(layers.Bidirectional(layers.LSTM(6))(x)))


MODELS = {
    builder.__name__: builder
    for builder in (
        *(sequential, residual, concatenated, inverted_residual, squeeze_and_excite, many_groups, wide_groups),
        *(shuffled, group_normalised, up_and_down, shared, nested, transformer, grouped_queries),
        *(attention_from_operations, einsum, mixer, gated, sequence, padded, both_directions),
        resized_and_masked,
    )
}
