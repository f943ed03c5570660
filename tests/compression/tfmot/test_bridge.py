"""A Keras 3 model and its tf_keras counterpart have the same weights and compute the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from keras import layers, ops

from tfbig.compression.tfmot.bridge import copy_to_keras, layers_by_name, to_tf_keras
from tfbig.errors import InvalidModel


def randomised(model: keras.Model) -> keras.Model:
    """Gives every weight a value of its own, variances positive ones."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        noise = rng.uniform(0.5, 1.5, weight.shape) if "var" in weight.name else rng.normal(0.0, 0.1, weight.shape)
        weight.assign(weight + noise if weight.dtype == "float32" else weight)
    return model


def convolutional() -> keras.Model:
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255, offset=-0.5)(inputs)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(8, 3, strides=2, activation="silu", kernel_regularizer="l2", kernel_constraint="max_norm")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-2)(x)
    x = layers.LeakyReLU(negative_slope=0.2)(x)
    x = layers.SeparableConv2D(8, 3, padding="same", activation="hard_sigmoid")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, activation="gelu")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear")(x)
    x = layers.Dropout(0.5)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(5, activation="softmax")(x))


def with_operations() -> keras.Model:
    inputs = keras.Input((6, 4))
    x = 1.0 - inputs[:, 1:, :] * 2.0
    x = ops.concatenate([x, ops.relu(x + x)], axis=-1)
    x = ops.hard_silu(layers.Dense(4, activation="log_softmax")(x))
    return keras.Model(inputs, ops.mean(x, axis=1) + ops.max(x, axis=1))


def nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="dense"), layers.ReLU()], name="inner")
    outer = keras.Input((4,))
    x = layers.Dense(4, name="dense")(inner(outer))
    return keras.Model(outer, inner(x) + x)


def recurrent() -> keras.Model:
    tokens = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 6, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    return keras.Model(tokens, layers.GRU(5, dropout=0.2)(layers.TimeDistributed(layers.Dense(3))(x)))


def attention() -> keras.Model:
    inputs = keras.Input((5, 8))
    x = layers.LayerNormalization()(inputs)
    x = inputs + layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
    return keras.Model(inputs, layers.EinsumDense("abc,cd->abd", (None, 6), bias_axes="d")(x))


def several_inputs_and_outputs() -> keras.Model:
    inputs = {"image": keras.Input((4, 4, 2), name="image"), "size": keras.Input((3,), name="size")}
    x = layers.concatenate([layers.Flatten()(inputs["image"]), inputs["size"]])
    return keras.Model(inputs, {"class": layers.Dense(3, name="class")(x), "box": layers.Dense(4, name="box")(x)})


def shared() -> keras.Model:
    one, other = keras.Input((4,)), keras.Input((4,))
    twin = layers.Dense(3, activation="tanh")
    return keras.Model([one, other], layers.Dot(1)([twin(one), twin(other)]))


def adapted() -> keras.Model:
    normalize = layers.Normalization()
    normalize.adapt(np.random.default_rng(0).normal(3.0, 2.0, (50, 4)))
    return keras.Sequential([keras.Input((4,)), normalize, layers.Dense(2)])


def odd_names() -> keras.Model:
    inputs = keras.Input((4,), name="an input")
    return keras.Model(inputs, layers.Dense(2, name="_my layer (1)")(inputs), name="a model")


MODELS: list[Callable[[], keras.Model]] = [
    convolutional,
    with_operations,
    nested,
    recurrent,
    attention,
    several_inputs_and_outputs,
    shared,
    adapted,
    odd_names,
]


def inputs_of(model: keras.Model, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [
        rng.integers(0, 9, (count, *x.shape[1:])) if "int" in x.dtype else rng.random((count, *x.shape[1:]), "float32")
        for x in model.inputs
    ]


def assert_equal_outputs(model: keras.Model, twin: tf_keras.Model) -> None:
    values = inputs_of(model)
    functional = model._functional if isinstance(model, keras.Sequential) else model
    packed = keras.tree.pack_sequence_as(functional._inputs_struct, values)
    expected = keras.tree.flatten(model(packed, training=False))
    for want, got in zip(expected, keras.tree.flatten(twin(values, training=False)), strict=True):
        want, got = np.asarray(want), np.asarray(got)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * max(1e-6, float(np.max(np.abs(want)))))


@pytest.mark.parametrize("build", MODELS, ids=lambda f: f.__name__)
def test_the_counterpart_computes_the_same(build: Callable[[], keras.Model]) -> None:
    model = randomised(build()) if build is not adapted else build()
    assert_equal_outputs(model, to_tf_keras(model))


@pytest.mark.parametrize("name", ["MobileNetV3Small", "ConvNeXtTiny"])
def test_applications_compute_the_same(name: str) -> None:
    model = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=4)
    assert_equal_outputs(randomised(model), to_tf_keras(model))


def test_weights_come_back() -> None:
    model = randomised(nested())
    twin = to_tf_keras(model)
    for weight in twin.weights:
        weight.assign(weight * 2.0)
    before = [w.numpy() for w in model.weights]
    copy_to_keras(twin, model)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(new.numpy(), old * 2.0)


def test_layers_of_nested_models_get_names_of_their_own() -> None:
    names = [name for _, name in layers_by_name(nested())]
    assert sorted(names) == ["dense", "dense_1"]


def test_the_counterpart_trains_as_the_model_does() -> None:
    """Dropout and BatchNormalization see the training flag, also inside recurrent and nested layers."""
    model = recurrent()
    twin = to_tf_keras(model)
    values = inputs_of(model)
    draws = [np.asarray(twin(values, training=True)) for _ in range(2)]
    assert not np.array_equal(*draws)
    assert np.array_equal(*[np.asarray(twin(values, training=False)) for _ in range(2)])


class Scale(layers.Layer):
    """A layer of the user's own."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones")

    def call(self, x: Any) -> Any:
        return x * self.factor


class OwnCall(keras.Model):
    """A subclassed model."""

    def __init__(self) -> None:
        super().__init__(name="own_call")
        self.dense = layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.dense(x)


class OwnStep(keras.Model):
    """A Functional model with a training step of its own."""

    def train_step(self, data: Any) -> Any:
        return super().train_step(data)


def refused(layer: layers.Layer, shape: tuple[int, ...] = (4,)) -> keras.Model:
    inputs = keras.Input(shape)
    return keras.Model(inputs, layer(inputs))


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Scale(name="mine"), r"'mine' \(Scale\) has no counterpart there: tf_keras has no layer of this kind"),
        (layers.RMSNormalization(name="rms"), r"'rms' \(RMSNormalization\) has no counterpart"),
        (layers.Lambda(lambda x: x, name="code"), r"'code' \(Lambda\) has no counterpart"),
    ],
)
def test_what_tf_keras_does_not_have_is_named(layer: layers.Layer, reason: str) -> None:
    with pytest.raises(InvalidModel, match=reason) as caught:
        to_tf_keras(refused(layer))
    assert "engine='native'" in str(caught.value)


def test_an_option_that_tf_keras_does_not_have_is_named() -> None:
    inputs = keras.Input((4, 6))
    gated = layers.MultiHeadAttention(2, 3, use_gate=True, name="gated")
    with pytest.raises(
        InvalidModel, match=r"'gated' .* tf_keras has no `use_gate`, which is True. Use engine='native'"
    ):
        to_tf_keras(keras.Model(inputs, gated(inputs, inputs)))


def test_a_subclassed_model_is_refused() -> None:
    model = OwnCall()
    model(np.zeros((1, 3), "float32"))
    with pytest.raises(InvalidModel, match=r"'own_call' \(OwnCall\) cannot be rebuilt .* computation is Python code"):
        to_tf_keras(model)


def test_a_training_step_of_its_own_is_not_lost_without_a_word() -> None:
    inputs = keras.Input((3,))
    model = OwnStep(inputs, layers.Dense(2)(inputs), name="own_step")
    with pytest.raises(InvalidModel, match=r"'own_step', OwnStep, has a train_step of its own"):
        to_tf_keras(model)


def test_a_counterpart_that_computes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf_keras.layers.Dense, "call", lambda self, x: 2.0 * x @ self.kernel)
    with pytest.raises(InvalidModel, match=r"does not compute the same: output 0 differs by 1 of its largest value"):
        to_tf_keras(refused(layers.Dense(3, use_bias=False)))
