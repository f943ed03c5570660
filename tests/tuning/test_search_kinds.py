"""Other kinds of models, data and algorithms; each with a search of one or two trials."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfbig
from tfbig.tuning.as_keras3 import as_keras3
from tfbig.tuning.search import search

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def test_tf_keras_model_is_searched(fresh_digits, search_options):
    import tf_keras

    model = tf_keras.Sequential(
        [tf_keras.Input((8, 8, 1)), tf_keras.layers.Flatten(), tf_keras.layers.Dense(10, activation="softmax")]
    )
    x = np.random.default_rng(0).random((3, 8, 8, 1), "float32")
    np.testing.assert_allclose(as_keras3(model)(x), model(x), atol=1e-6)
    before = model.get_weights()
    space = {**search_options["space"], "bits": ["int8"]}
    result = search(model, fresh_digits(), **{**search_options, "trials": 1, "space": space}, algorithm="random")
    assert result.files and result.trials[0].score is not None
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_hyperband_gives_the_better_plan_more_epochs(small_model, digits_file, search_options):
    options = {**search_options, "trials": 4, "epochs": 3}
    result = search(small_model, str(digits_file), algorithm="hyperband", **options)
    epochs = [trial.epochs for trial in result.trials]
    assert len(epochs) == 4 and min(epochs) == 1
    again = [trial for trial in result.trials if trial.epochs > 1]
    assert all(any(first.plan == trial.plan and first.epochs == 1 for first in result.trials) for trial in again)


@pytest.mark.parametrize("metric", ["top5_accuracy"])
def test_subclassed_model_and_data_as_a_mapping(digits_arrays, search_options, metric):
    @keras.saving.register_keras_serializable(package="test_search_kinds")
    class Classifier(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.hidden, self.scores = keras.layers.Dense(16, activation="relu"), keras.layers.Dense(10)

        def call(self, x):
            return self.scores(self.hidden(keras.ops.reshape(x, (-1, 64))))

    model = Classifier(name="classifier")
    model(keras.ops.zeros((1, 8, 8, 1)))
    pairs = {
        "train": (digits_arrays["x_train"], digits_arrays["y_train"]),
        "test": (digits_arrays["x_test"], digits_arrays["y_test"]),
    }
    space = {"sparsity": [0.5], "clusters": 0, "bits": "float32", "distill": False, "exempt": 0}
    result = search(model, pairs, space=space, trials=1, epochs=1, metric=metric, loss=LOSS, verbose=0)
    assert result.best.measurement.quality_name == metric
    assert any("No choice of channels" in note for note in result.report.notes)
    assert tfbig.inspect(result.files[0]).ops
