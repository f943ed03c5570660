"""`check_fits`: what a model can take, said before any training."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfbig.data import check_fits, load
from tfbig.data.dataset import Data, DataSpec
from tfbig.errors import InvalidData


def _model(shape=(8, 8, 1), units=10, dtype=None) -> keras.Model:
    inputs = keras.Input(shape, dtype=dtype)
    outputs = keras.layers.Dense(units)(
        (keras.layers.GlobalMaxPooling2D() if None in shape else keras.layers.Flatten())(inputs)
    )
    return keras.Model(inputs, outputs, name="mine")


class _Subclassed(keras.Model):
    def call(self, x):
        return x


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


@pytest.mark.parametrize(
    "model",
    [
        lambda: _model(),
        lambda: _model((None, None, 1)),
        lambda: _model(units=20),
        lambda: _model(units=1),  # one unit is a regression or a sigmoid: labels say nothing
        lambda: keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)]),
        lambda: keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)]),  # not built
        _Subclassed,
    ],
)
def test_silent_where_it_fits_or_nothing_is_known(digits, model):
    check_fits(model(), digits)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((32, 32, 1), r"expects inputs of shape \(32, 32, 1\), received \(8, 8, 1\). Load .* image_size=32"),
        ((32, 16, 1), r"image_size=\(32, 16\)"),
        ((8, 8, 3), r"received \(8, 8, 1\). Load data of that shape, or build the model for this one"),
        (
            (64,),
            r"The data does not fit model 'mine': it expects inputs of shape \(64,\), received \(8, 8, 1\)",
        ),
    ],
)
def test_wrong_shape(digits, shape, message):
    with pytest.raises(InvalidData, match=message):
        check_fits(_model(shape), digits)


def test_missing_channel_axis():
    data = load((np.zeros((20, 8, 8)), np.arange(20) % 2))
    with pytest.raises(
        InvalidData, match=r"expects .* \(8, 8, 1\), received \(8, 8\). Add the last axis: x\[\.\.\., None\]"
    ):
        check_fits(_model(), data)


def test_more_classes_than_units(digits):
    with pytest.raises(
        InvalidData,
        match="Labels out of range for model 'mine': its 3 output units expect "
        "labels 0 to 2, received 0 to 9. "
        "Build the model with 10 outputs",
    ):
        check_fits(_model(units=3), digits)


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_of_a_dataset_of_the_users_own(label):
    y = np.array([0, label, 2, 1])
    own = tf.data.Dataset.from_tensor_slices((np.zeros((4, 8, 8, 1), np.float32), y)).batch(2)
    with pytest.raises(InvalidData, match="Labels out of range"):
        check_fits(_model(units=3), load(own))
    check_fits(_model(units=4), load(own)) if label > 0 else None


def test_the_training_order_is_not_moved_on():
    def own():
        pairs = tf.data.Dataset.from_tensor_slices((np.zeros((9, 8, 8, 1), np.float32), np.arange(9)))
        return load(SimpleNamespace(train=pairs.shuffle(9, seed=1).batch(3), validation=pairs.batch(3), test=None))

    def order(data):
        return [y.numpy().tolist() for _, y in data.train]

    looked_at, untouched = own(), own()
    check_fits(_model(), looked_at)
    assert order(looked_at) == order(untouched)


def test_strings_for_a_model_of_numbers():
    texts = np.array(["some", "words"] * 10, dtype=object)
    data = load((texts, np.arange(20) % 2))
    with pytest.raises(InvalidData, match="it expects numbers, received strings. .*TextVectorization"):
        check_fits(_model(shape=(), units=2), data)
    check_fits(keras.Model(*(2 * [keras.Input((), dtype="string")])), data)


def _two_inputs(named: bool) -> keras.Model:
    a, b = keras.Input((4,), name="a"), keras.Input((6,), name="b")
    outputs = keras.layers.Dense(2)(keras.layers.Concatenate()([a, b]))
    return keras.Model({"a": a, "b": b} if named else [a, b], outputs, name="two")


def _spec(shapes) -> Data:
    flat = tf.nest.map_structure(lambda _: "float32", shapes) if isinstance(shapes, dict) else "float32"
    return Data(None, None, None, DataSpec(shapes, flat, classes=2))


@pytest.mark.parametrize("named", [True, False])
def test_several_inputs(named):
    model = _two_inputs(named)
    check_fits(model, _spec(((4,), (6,))))
    check_fits(model, _spec({"b": (6,), "a": (4,)}))
    with pytest.raises(InvalidData, match="Model 'two' expects 2 inputs, the data gives 1"):
        check_fits(model, _spec((4,)))
    with pytest.raises(InvalidData, match="expects inputs named a, b; the data gives a. .*yield b too"):
        check_fits(model, _spec({"a": (4,)}))
    with pytest.raises(InvalidData, match=r"expects inputs of shape \(6,\), received \(5,\)"):
        check_fits(model, _spec({"a": (4,), "b": (5,)}))


def test_unknown_shape_of_the_data():
    check_fits(_model(), Data(None, None, None, DataSpec(None, "float32", classes=10)))


def test_tf_keras_models_are_checked_too(digits):
    import tf_keras

    model = tf_keras.Sequential([tf_keras.layers.Flatten(input_shape=(8, 8, 1)), tf_keras.layers.Dense(3)])
    with pytest.raises(InvalidData, match="Labels out of range"):
        check_fits(model, digits)
