"""`tune` finds rates, compares optimizers over seeds, and says so plainly."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile
from tfbig.tuning.range_test import range_test, suggested
from tfbig.tuning.result import NoTrialCompleted
from tfbig.tuning.tune import tune

SPACE = {"optimizer": ["adam", "momentum"], "schedule": "cosine", "rate": [1.0, 0.3], "units": [[16]]}


@pytest.fixture(scope="module")
def tuned(fresh_digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "folder"
    return tune("mlp", fresh_digits(), space=SPACE, trials=4, epochs=2, seeds=2, directory=folder, verbose=0)


def test_each_optimizer_has_a_row_over_the_seeds(tuned):
    assert {row.setting.values["optimizer"] for row in tuned.rows} == {"adam", "momentum"}
    assert all(len(row.qualities) == 2 for row in tuned.rows)
    assert tuned.rows[0].mean >= tuned.rows[1].mean
    assert tuned.best.spread == pytest.approx(np.std(tuned.best.qualities, ddof=1))
    assert len(tuned.trials) == 4 and len({trial.plan for trial in tuned.trials}) == 4


def test_answer_is_plain(tuned):
    assert tuned.verdict.startswith(f"Take {tuned.best.setting.values['optimizer']} at ")
    assert "the spread over the seeds." in tuned.verdict and "on the test split" in tuned.verdict
    assert tuned.table == str(tuned) and tuned.table.splitlines()[0].split() == [
        *("optimizer", "accuracy", "spread", "seeds", "rate", "seconds", "setting")
    ]


def test_best_model_is_that_of_the_table(tuned, fresh_digits):
    data = fresh_digits()
    again = tfbig.measure(tfbig.load(tuned.folder / "best.keras"), data.validation)
    assert again.quality == pytest.approx(tuned.best.qualities[0])
    assert tfbig.measure(tuned.model, data.test).quality == pytest.approx(tuned.test_quality)


def test_finished_trials_are_not_run_again(tuned, fresh_digits):
    again = tune("mlp", fresh_digits(), space=SPACE, trials=4, epochs=2, seeds=1, directory=tuned.folder, verbose=0)
    assert again.trials == tuned.trials and again.rates == tuned.rates
    with pytest.raises(InvalidFile, match=r"holds a search with another epochs \(2 there, 1 here\)"):
        tune("mlp", fresh_digits(), space=SPACE, trials=4, epochs=1, directory=tuned.folder, verbose=0)


def test_own_builder_batches_and_a_failing_choice(fresh_digits):
    seen = []

    def build(width):
        if width == 0:
            raise ValueError("a width of nothing")
        inputs = keras.Input((8, 8, 1))
        outputs = keras.layers.Dense(10)(keras.layers.Dense(width, "relu")(keras.layers.Flatten()(inputs)))
        seen.append(width)
        return keras.Model(inputs, outputs)

    space = {"optimizer": "adam", "rate": 1.0, "schedule": "constant", "width": [8, 0], "batch_size": 64}
    result = tune(build, fresh_digits(), space=space, trials=2, epochs=1, seeds=1, verbose=0)
    assert {trial.reason for trial in result.trials} == {None, "ValueError: a width of nothing"}
    assert set(seen) == {8} and result.best.setting.values["batch_size"] == 64


def test_builder_of_tf_keras(fresh_digits):
    import tf_keras

    def build(width):
        layers = tf_keras.layers
        return tf_keras.Sequential(
            [tf_keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(width, "relu"), layers.Dense(10, "softmax")]
        )

    space = {"optimizer": "adam", "rate": 1.0, "schedule": "constant", "width": [8]}
    result = tune(build, fresh_digits(), space=space, trials=1, epochs=2, seeds=1, verbose=0)
    assert result.trials[0].reason is None and isinstance(result.model, keras.Model)
    assert result.best.mean > 0.2


def test_nothing_completed_is_an_error_with_the_reasons(fresh_digits, monkeypatch):
    monkeypatch.setattr("tfbig.training.fit", lambda *_, **__: 1 / 0)
    with pytest.raises(NoTrialCompleted, match="None of the 1 trials completed.*\n.*ZeroDivisionError"):
        tune("mlp", fresh_digits(), space={**SPACE, "optimizer": "adam"}, trials=1, epochs=1, verbose=0)


def test_range_test_stops_where_the_loss_is_lost(fresh_digits):
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("mlp", units=[16], input_shape=(8, 8, 1), classes=10)
    found = range_test(model, fresh_digits().train, optimizer="momentum", steps=60)
    assert 1e-5 < found.rate < 1.0 and len(found.rates) == len(found.losses) <= 60
    assert np.all(np.diff(found.rates) > 0)


def test_suggestion_is_where_the_loss_falls_fastest():
    rates = np.geomspace(1e-6, 1, 61)
    losses = 2 - 1 / (1 + np.exp(-4 * np.log10(rates / 1e-3))) + np.where(rates > 0.1, 5.0, 0.0)
    assert suggested(rates, losses) == pytest.approx(1e-3, rel=0.3)
    assert suggested([], []) == 1e-3


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"builder": "mlpp"}, r"Unknown model 'mlpp'.*Did you mean 'mlp'\?"),
        ({"space": {"unit": [3]}}, r"Unknown choice in `space`: 'unit'.*Did you mean 'units'\?"),
        ({"space": {"optimizer": "adamm"}}, "Unknown optimizer 'adamm'"),
        ({"space": {"schedule": "cos"}}, "Unknown schedule 'cos'"),
        ({"space": {"precision": "float8"}}, "Unknown precision 'float8'"),
        ({"space": {"rate": 0}}, r"`space\['rate'\]` must be in \(0, 1000\), received 0"),
        ({"space": {"batch_size": -1}}, r"`space\['batch_size'\]` must be a whole number"),
        ({"space": {"augmentation": 1}}, r"`space\['augmentation'\]` must be True or False"),
        ({"trials": 0}, "`trials` must be a whole number of at least 1, received 0"),
        ({"seeds": 0}, "`seeds` must be a whole number of at least 1, received 0"),
        ({"algorithm": "grid"}, "Unknown algorithm 'grid'"),
    ],
)
def test_bad_arguments_are_told_at_once(fresh_digits, change, text):
    given = {"builder": "mlp", "data": fresh_digits(), **change}
    with pytest.raises(InvalidArgument, match=text):
        tune(given.pop("builder"), given.pop("data"), **given)


def test_data_without_validation_is_told_at_once(fresh_digits):
    with pytest.raises(InvalidData, match="`data` has no validation split"):
        tune("mlp", fresh_digits().train)
