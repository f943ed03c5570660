"""Models that are unusual in how they are put together."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from benchmarks.zoo.registry import entry


@entry("structure")
def multi_input_output() -> keras.Model:
    image, table = keras.Input((12, 12, 3), name="image"), keras.Input((5,), name="table")
    x = layers.Conv2D(8, 3, activation="relu")(image)
    x = layers.GlobalAveragePooling2D()(x)
    y = layers.Dense(8, activation="relu")(table)
    both = layers.Concatenate()([x, y])
    kind = layers.Dense(5, activation="softmax", name="kind")(both)
    size = layers.Dense(1, name="size")(layers.Subtract()([x, y]))
    top = layers.Maximum()([x, y])
    return keras.Model({"image": image, "table": table}, [kind, size, top], name="multi_input_output")


@entry("structure")
def layer_used_twice() -> keras.Model:
    left, right = keras.Input((12, 12, 1), name="left"), keras.Input((12, 12, 1), name="right")
    convolution = layers.Conv2D(6, 3, activation="relu", name="twin")
    normalization = layers.BatchNormalization()
    ends = [layers.GlobalAveragePooling2D()(normalization(convolution(x))) for x in (left, right)]
    x = layers.Dense(8, activation="relu")(layers.Concatenate()(ends))
    distance = ops.abs(ends[0] - ends[1])
    outputs = layers.Dense(1, activation="sigmoid")(layers.Concatenate()([x, distance]))
    return keras.Model([left, right], outputs, name="layer_used_twice")


@entry("structure")
def tied_weights() -> keras.Model:
    inputs = keras.Input((16,))
    encoder = layers.Dense(8, activation="relu", name="encoder")
    code = encoder(inputs)
    return keras.Model(inputs, TiedDense(encoder, name="decoder")(code), name="tied_weights")


@entry("structure")
def nested() -> keras.Model:
    inner_in = keras.Input((12, 12, 4))
    y = layers.Conv2D(4, 3, padding="same", use_bias=False)(inner_in)
    inner = keras.Model(inner_in, layers.ReLU()(layers.BatchNormalization()(y)), name="inner")
    middle_in = keras.Input((12, 12, 4))
    middle = keras.Model(middle_in, layers.Add()([inner(middle_in), inner(middle_in)]), name="middle")
    outer = keras.Sequential([keras.Input((12, 12, 3)), layers.Conv2D(4, 1), middle], name="outer")
    inputs = keras.Input((12, 12, 3))
    x = layers.GlobalAveragePooling2D()(outer(inputs))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="nested")


@entry("structure")
def keras_ops() -> keras.Model:
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, padding="same")(inputs)
    x = ops.relu(x) * 0.5 + ops.sigmoid(-x)
    x = ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
    x = ops.concatenate([ops.max_pool(x, 2), ops.average_pool(x, 2)], axis=-1)
    first, second = ops.split(x, 2, axis=-1)
    x = ops.reshape(first - second, (-1, 49, 8))
    scores = ops.softmax(ops.matmul(x, ops.transpose(x, (0, 2, 1))) / 8.0)
    x = ops.mean(ops.matmul(scores, x), axis=1)
    x = ops.clip(x, -0.8, 0.8) / (1.0 + ops.square(x))
    return keras.Model(inputs, ops.softmax(layers.Dense(4)(ops.tanh(x))), name="keras_ops")


@entry("structure")
def subclassed() -> keras.Model:
    model = Subclassed(filters=8, name="subclassed")
    model.build((None, 12, 12, 3))
    return model


@entry("structure")
def custom_layer() -> keras.Model:
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    x = layers.GlobalAveragePooling2D()(Mixer(8)(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="custom_layer")


@entry("structure", span=(0.0, 255.0))
def preprocessing() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = layers.RandomFlip("horizontal", seed=0)(inputs)
    x = layers.RandomRotation(0.1, seed=0)(x)
    x = layers.RandomContrast(0.1, seed=0)(x)
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    x = layers.Normalization(mean=[0.1, 0.0, -0.1], variance=[0.3, 0.25, 0.2])(x)
    x = layers.Resizing(12, 12)(x)
    x = layers.CenterCrop(10, 10)(x)
    x = layers.GaussianNoise(0.1)(x)
    x = layers.Conv2D(8, 3, activation="relu")(x)
    outputs = layers.Dense(4, activation="softmax")(layers.Flatten()(x))
    return keras.Model(inputs, outputs, name="preprocessing")


@keras.saving.register_keras_serializable(package="zoo")
class TiedDense(layers.Layer):
    """The transpose of another layer's kernel, with a bias of its own."""

    def __init__(self, source: layers.Dense, **kwargs: Any):
        super().__init__(**kwargs)
        self.source = source

    def build(self, input_shape: tuple) -> None:
        self.bias = self.add_weight(shape=(self.source.kernel.shape[0],), initializer="zeros", name="bias")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ops.matmul(x, ops.transpose(self.source.kernel)) + self.bias

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "source": keras.saving.serialize_keras_object(self.source)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> TiedDense:
        return cls(**{**config, "source": keras.saving.deserialize_keras_object(config["source"])})


@keras.saving.register_keras_serializable(package="zoo")
class Mixer(layers.Layer):
    """A layer of the user's own: two matrices over channels and a gate, all its own weights."""

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape: tuple) -> None:
        self.mix = self.add_weight(shape=(input_shape[-1], self.units), name="mix")
        self.gate = self.add_weight(shape=(input_shape[-1], self.units), name="gate")
        self.offset = self.add_weight(shape=(self.units,), initializer="zeros", name="offset")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return ops.relu(ops.matmul(x, self.mix) + self.offset) * ops.sigmoid(ops.matmul(x, self.gate))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable(package="zoo")
class Subclassed(keras.Model):
    """A residual network written as a class."""

    def __init__(self, filters: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.filters = filters
        self.stem = layers.Conv2D(filters, 3, padding="same", activation="relu")
        self.convolution = layers.Conv2D(filters, 3, padding="same", use_bias=False)
        self.normalization = layers.BatchNormalization()
        self.dropout = layers.Dropout(0.1)
        self.head = layers.Dense(4, activation="softmax")

    def build(self, input_shape: tuple) -> None:
        self.stem.build(input_shape)
        inner = (*input_shape[:-1], self.filters)
        self.convolution.build(inner)
        self.normalization.build(inner)
        self.head.build((input_shape[0], self.filters))
        self.built = True

    def call(self, x: keras.KerasTensor, training: bool | None = None) -> keras.KerasTensor:
        x = self.stem(x)
        y = self.normalization(self.convolution(x), training=training)
        x = self.dropout(ops.relu(x + y), training=training)
        return self.head(ops.mean(x, axis=(1, 2)))

    def get_config(self) -> dict[str, Any]:
        return {"filters": self.filters, "name": self.name}
