"""Fused kernels compute what Keras computes."""

import contextlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfbig
from tfbig.training import fit
from tfbig.training.kernels import fused, sound

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(32, 6, 6, 3)).astype("float32")
Y = RANDOM.integers(0, 3, 32)


def model(optimizer: str | keras.optimizers.Optimizer = "adam", **norm) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    x = layers.BatchNormalization(name="norm", **norm)(layers.Conv2D(4, 3, name="conv")(inputs))
    x = layers.BatchNormalization(name="flat_norm")(layers.Flatten()(layers.ReLU()(x)))
    made = keras.Model(inputs, layers.Dense(3, activation="softmax")(x))
    made.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    return made


@pytest.mark.parametrize(
    "norm", [{}, {"momentum": 0.5, "epsilon": 0.1}, {"epsilon": 1e-6}, {"axis": 1}, {"scale": False}]
)
def test_outputs_gradients_and_moving_averages_of_a_normalization(norm):
    ours, theirs = model(**norm), model(**norm)
    found = []
    for one in (ours, theirs):
        with fused(ours), tf.GradientTape() as tape:
            outputs = one(X, training=True)
            loss = tf.reduce_sum(outputs * tf.cast(X[:, 0, 0, :], "float32"))
        found.append([outputs, *tape.gradient(loss, [v.value for v in one.trainable_variables])])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    for a, b in zip(ours.non_trainable_variables, theirs.non_trainable_variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6, err_msg=a.path)
    np.testing.assert_allclose(ours(X), theirs(X), atol=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.optimizers.Adam(0.01),
        lambda: keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.5),
        lambda: keras.optimizers.Adam(0.01, use_ema=True, gradient_accumulation_steps=2),
        lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    ],
)
def test_same_training_as_keras(make):
    ours, theirs = model(make()), model(make())
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(8)
    losses = [
        fit(ours, data, epochs=2, verbose=0).history["loss"],
        theirs.fit(data, epochs=2, shuffle=False, verbose=0).history["loss"],
    ]
    np.testing.assert_allclose(*losses, rtol=1e-3)
    for a, b in zip(ours.optimizer.variables, theirs.optimizer.variables, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-3, err_msg=a.path)


def test_embeddings_that_a_batch_does_not_touch_go_on_moving_as_in_keras():
    trained = []
    for fit_with in (
        lambda m, d: fit(m, d, epochs=3, verbose=0),
        lambda m, d: m.fit(d, epochs=3, shuffle=False, verbose=0),
    ):
        keras.utils.set_random_seed(0)
        made = tfbig.models.build("recommender", users=9, items=9, dimensions=4, units=(4,))
        made.compile(keras.optimizers.Adam(0.01), "binary_crossentropy", jit_compile=False)
        ids = {"user": np.arange(16) % 9, "item": np.arange(16) % 5}
        data = tf.data.Dataset.from_tensor_slices((ids, np.arange(16) % 2)).batch(4)
        fit_with(made, data)
        trained.append(made.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_everything_is_as_before_behind_the_block():
    made = model()
    with fused(made):
        assert "call" in made.get_layer("norm").__dict__ and "call" not in made.get_layer("flat_norm").__dict__
        assert "update_step" in made.optimizer.__dict__
    assert "call" not in made.get_layer("norm").__dict__ and "update_step" not in made.optimizer.__dict__


def test_the_kernels_are_in_the_graph():
    made = model()
    fit(made, (X, Y), verbose=0)
    made.optimizer.build(made.trainable_variables)

    @tf.function
    def step(x, y):
        return made.train_step((x, y))

    with fused(made):
        kinds = {op.type for op in step.get_concrete_function(X, Y).graph.get_operations()}
    assert {"FusedBatchNormV3", "FusedBatchNormGradV3", "ResourceApplyAdam"} <= kinds


@pytest.mark.parametrize("strides", [2, (1, 3)])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_strided_pointwise_convolutions_compute_the_same(strides, padding):
    def made() -> keras.Model:
        keras.utils.set_random_seed(0)
        inputs = keras.Input((7, 8, 3))
        return keras.Model(inputs, layers.Conv2D(5, 1, strides=strides, padding=padding, activation="relu")(inputs))

    x = RANDOM.normal(size=(2, 7, 8, 3)).astype("float32")
    found = []
    for one, context in ((made(), sound), (made(), lambda _: contextlib.nullcontext())):
        one.compile("sgd", "mse", jit_compile=False)
        with context(one), tf.GradientTape() as tape:
            outputs = one(x, training=True)
            loss = tf.reduce_sum(outputs**2)
        found.append([outputs, *tape.gradient(loss, [v.value for v in one.trainable_variables])])
        assert "convolution_op" not in one.layers[-1].__dict__
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize(
    "fit",
    ["tfbig.training.fit(model, (images, zeros), verbose=0)", "prepared.fit(images, zeros, verbose=0)"],
    ids=["fit", "prepared"],
)
def test_strided_pointwise_convolution_of_few_channels_does_not_end_the_process(fit):
    """In Keras's own fit it does: oneDNN writes outside its memory."""
    program = f"""
import keras, numpy as np, tfbig
inputs = keras.Input((60, 60, 8))
x = keras.layers.Conv2D(8, 3, padding="same")(inputs)
model = keras.Model(inputs, keras.layers.Conv2D(16, 1, strides=2, use_bias=False)(x))
model.compile("sgd", "mse", jit_compile=False)
prepared = tfbig.Prune().prepare(model)
prepared.compile("sgd", "mse", jit_compile=False)
images, zeros = np.random.default_rng(0).random((32, 60, 60, 8), "float32"), np.zeros((32, 30, 30, 16), "float32")
{fit}
print("trained")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.stdout.split()[-1:] == ["trained"], done.stderr[-2000:]
