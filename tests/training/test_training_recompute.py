"""Recomputation changes the memory that training takes, and nothing else."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfbig
from tfbig.errors import InvalidModel
from tfbig.training import fit
from tfbig.training.recompute import recomputed

RANDOM = np.random.default_rng(0)


def convolutional() -> keras.Model:
    """All that has a state: moving averages, dropout; and branches that a cut crosses."""
    keras.utils.set_random_seed(0)
    inputs = x = keras.Input((8, 8, 2))
    for block in range(4):
        y = layers.Conv2D(4, 3, padding="same", name=f"conv{block}")(x)
        y = layers.Dropout(0.3)(layers.ReLU()(layers.BatchNormalization()(y)))
        x = layers.Concatenate()([x, y])
    outputs = layers.Dense(3, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, outputs)


def translator() -> keras.Model:
    """Whole numbers and booleans cross the cuts."""
    keras.utils.set_random_seed(0)
    sizes = {"source_length": 5, "target_length": 5, "width": 8, "depth": 1, "heads": 2, "mlp": 8}
    return tfbig.models.build("seq2seq", vocabulary=9, **sizes)


def data(model: keras.Model) -> tuple:
    if len(model.inputs) == 1:
        return RANDOM.normal(size=(32, 8, 8, 2)).astype("float32"), RANDOM.integers(0, 3, 32)
    tokens = RANDOM.integers(1, 9, (3, 32, 5))
    return (tokens[0], tokens[1]), tokens[2]


@pytest.mark.parametrize("make", [convolutional, translator])
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_same_training(make, precision):
    models = [make(), make()]
    given = data(models[0])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=make is translator)
    options = {"loss": loss, "optimizer": "sgd", "learning_rate": 0.1, "batch_size": 8, "epochs": 2, "verbose": 0}
    losses = []
    for model, recompute in zip(models, (False, True), strict=True):
        keras.utils.set_random_seed(7)
        losses.append(fit(model, given, recompute=recompute, precision=precision, **options).history["loss"])
    tolerance = 1e-5 if precision == "float32" else 5e-2
    np.testing.assert_allclose(losses[1], losses[0], rtol=tolerance)
    for a, b, start in zip(models[0].variables, models[1].variables, make().variables, strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), atol=tolerance, err_msg=a.path)
        assert a.path.endswith("biases") or a.ndim == 0 or (a.numpy() != start.numpy()).any(), a.path


def kept_of_the_forward_pass(model: keras.Model) -> int:
    """Numbers that the gradients need from the forward pass: those of all tensors that cross from it to them."""

    @tf.function
    def step(x: tf.Tensor) -> list:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(x, training=True))
            tf.no_op(name="forward_is_done")
        return tape.gradient(loss, [v.value for v in model.trainable_variables])

    operations = step.get_concrete_function(tf.TensorSpec((1, 8, 8, 2))).graph.get_operations()
    border = next(i for i, op in enumerate(operations) if op.name == "forward_is_done")
    position = {op.name: i for i, op in enumerate(operations)}
    crossing = {
        t.name: t.shape.num_elements() or 0
        for op in operations[border:]
        for t in op.inputs
        if position[t.op.name] < border and t.dtype == tf.float32 and t.op.type != "ReadVariableOp"
    }
    return sum(crossing.values())


def test_less_of_the_forward_pass_is_kept():
    model = tfbig.models.build("resnet", depth=20, input_shape=(8, 8, 2), width=0.25)
    plain = kept_of_the_forward_pass(model)
    with recomputed(model):
        less = kept_of_the_forward_pass(model)
    assert less < 0.4 * plain
    assert kept_of_the_forward_pass(model) == plain


def test_models_that_cannot_be_cut():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(InvalidModel, match="`recompute` needs a Functional model, received .* a Own"):
        fit(Own(), data(convolutional()), recompute=True, loss="mse", verbose=0)
    inputs = keras.Input((8, 8, 2))
    penalized = layers.Dense(3, activity_regularizer="l2")(layers.Flatten()(inputs))
    with pytest.raises(InvalidModel, match="adds a loss of its own"):
        fit(keras.Model(inputs, penalized), data(convolutional()), recompute=True, verbose=0)
