"""`compress` trains what Keras's `fit` trains: with the labels, losses, weights, metrics and steps of the user."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.pipeline.compress import settled
from tfbig.pipeline.result import StageFailed
from tfbig.training.compilation import compiled_settings, takes_class_ids

X = np.random.default_rng(0).normal(size=(48, 40)).astype("float32")
Y = (X[:, 0] > 0).astype("int64") + (X[:, 1] > 0)
QUICK = {"epochs": 1, "verbose": 0}


def network(units=3, activation="softmax"):
    return keras.Sequential([keras.Input((40,)), layers.Dense(units, activation=activation, name="out")])


def agreement(y_true, y_pred):
    return keras.metrics.categorical_accuracy(y_true, y_pred)


def test_one_hot_labels_a_metric_of_ones_own_and_a_split_that_is_not_cut():
    model = network()
    model.compile("adam", "categorical_crossentropy", metrics=[agreement])
    pair = X, np.eye(3)[Y]
    result = tfbig.compress(model, tfbig.Prune(sparsity=0.5), train=pair, validation=pair, **QUICK)
    stage = result.stages[-1]
    assert stage.measurement.quality_name == "accuracy" and stage.measurement.samples == 48
    assert "agreement" in stage.history and "quality was measured on the validation split" in result.notes[0]


class Own(keras.Model):
    """Its step makes up its own loss: it is compiled without one."""

    def train_step(self, data):
        x, _ = keras.utils.unpack_x_y_sample_weight(data)[:2]
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = keras.ops.mean(keras.ops.square(self(x, training=True)))
        variables = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables, strict=True))
        return {"size": loss}


def test_a_step_of_ones_own_needs_no_loss():
    inputs = keras.Input((40,))
    with keras.saving.custom_object_scope({"Own": Own}):
        model = Own(inputs, layers.Dense(3)(inputs))
        model.compile("sgd")
        result = tfbig.compress(model, tfbig.Prune(sparsity=0.5), train=(X, X[:, :3]), **QUICK)
    assert list(result.stages[-1].history) == ["size"]
    assert result.notes == ("No test split was given: quality was not measured.",)


def test_a_step_that_a_stage_cannot_keep_is_named():
    inputs = keras.Input((40,))
    with keras.saving.custom_object_scope({"Own": Own}):
        model = Own(inputs, layers.Dense(32, name="out")(layers.Dense(32)(inputs)))
        model.compile("sgd")
        with pytest.raises(
            StageFailed, match="trained by a step of its own, which prune channels 0.5 cannot keep.*`loss`"
        ):
            tfbig.compress(model, tfbig.PruneChannels(params=0.5), train=(X, X), **QUICK)


def test_a_model_compiled_without_a_loss_gets_the_one_that_fits():
    model = network()
    model.compile("adam", metrics=["accuracy"])
    assert settled(model, tfbig.data.splits(train=(X, Y)), {})["loss"].name == "sparse_categorical_crossentropy"


def test_losses_are_weighted_as_compiled():
    inputs = keras.Input((40,))
    model = keras.Model(inputs, [layers.Dense(1, name="a")(inputs), layers.Dense(1, name="b")(inputs)])
    model.compile("adam", ["mse", "mse"], loss_weights=[1.0, 0.0], weighted_metrics=[["mae"], ["mae"]])
    data = tfbig.data.splits(train=(X, (X[:, :1], X[:, 1:2])), ids=takes_class_ids(model))
    settings = settled(model, data, {})
    assert settings["loss_weights"] == [1.0, 0.0] and settings["weighted_metrics"] == [["mae"], ["mae"]]
    result = tfbig.compress(model, tfbig.Prune(sparsity=0.5), train=(X, (X[:, :1], X[:, 1:2])), **QUICK)
    assert not np.any(result.model.get_layer("b").bias) and np.any(result.model.get_layer("a").bias)


def test_settings_are_copies_of_metrics_and_none_of_what_was_not_compiled():
    model = network()
    assert compiled_settings(model) == {}
    metric = keras.metrics.CategoricalAccuracy()
    model.compile("adam", "mse", metrics=[metric, agreement, "mae"])
    settings = compiled_settings(model)
    assert settings["loss"] == "mse" and settings["metrics"][1:] == [agreement, "mae"]
    assert settings["metrics"][0] is not metric and settings["metrics"][0].name == metric.name


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        ("sparse_categorical_crossentropy", True),
        (keras.losses.SparseCategoricalCrossentropy(), True),
        (keras.losses.sparse_categorical_crossentropy, True),
        ({"out": "sparse_categorical_crossentropy"}, True),
        ("categorical_crossentropy", False),
        ("binary_crossentropy", False),
        (keras.losses.MeanSquaredError(), False),
        (lambda y_true, y_pred: 0.0, False),
        (None, True),
    ],
)
def test_which_losses_take_ids(loss, expected):
    model = network()
    assert takes_class_ids(model, loss) == expected
    if loss is not None:
        model.compile("adam", loss)
        assert takes_class_ids(model) == expected


def test_one_number_is_no_class_but_one_share_is():
    assert not takes_class_ids(network(1, None)) and not takes_class_ids(network(1, "sigmoid"), "mse")
    assert takes_class_ids(network(1, "sigmoid")) and takes_class_ids(network(1, None), "binary_crossentropy")


@pytest.mark.parametrize(
    ("labels", "loss"), [([0, 1], "binary_crossentropy"), ([17, 80], "mse"), ([-1, 1], "mse")], ids=str
)
def test_whole_numbers_against_one_linear_output(labels, loss):
    y = np.resize(labels, len(X))
    found = settled(network(1, None), tfbig.data.splits(train=(X, y), ids=False), {})["loss"]
    assert getattr(found, "name", found) == loss


def test_an_output_in_a_dictionary_has_a_fitting_loss():
    inputs = keras.Input((40,), name="x")
    model = keras.Model({"x": inputs}, {"kind": layers.Activation(keras.ops.softmax)(layers.Dense(3)(inputs))})
    data = tfbig.data.splits(train=({"x": X}, {"kind": Y}))
    assert settled(model, data, {})["loss"].get_config()["from_logits"] is False


def test_losses_of_activities_are_trained_with():
    inputs = keras.Input((40,))
    model = keras.Model(inputs, layers.Dense(3, activity_regularizer="l2")(inputs))
    prepared = tfbig.Prune(sparsity=0.5).prepare(model)
    prepared.compile("sgd", "mse", metrics=["mse"])
    history = prepared.fit(X, np.zeros((48, 3)), epochs=1, batch_size=48, verbose=0).history
    assert history["loss"][0] > 1.01 * history["mse"][0] > 0
