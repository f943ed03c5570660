"""`search` trains recipes, measures files, keeps to the budget, and takes up where it was stopped."""

from __future__ import annotations

import json
import re

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile, InvalidModel
from tfbig.pipeline import compress as compress_module
from tfbig.tuning.result import BudgetNotMet, NoTrialCompleted
from tfbig.tuning.search import search


def test_front_is_of_measured_files_that_are_there(searched, fresh_digits):
    data = fresh_digits()
    assert len(searched.trials) == 3 and all(trial.score is not None for trial in searched.trials)
    assert searched.best in searched.front
    for candidate in searched.front:
        again = tfbig.measure(candidate, data.validation, latency=False)
        assert (again.quality, again.bytes) == (candidate.measurement.quality, candidate.measurement.bytes)
    sizes = [path.stat().st_size for path in searched.files]
    assert sizes == sorted(sizes) and len(set(searched.files)) == len(sizes)


def test_last_table_is_of_the_test_split(searched, fresh_digits):
    data = fresh_digits()
    assert searched.report.rows[0].stage == "float"
    for row in searched.report.rows[1:]:
        again = tfbig.measure(searched.folder / row.measurement.file, data.test, latency=False)
        assert (row.measurement.samples, row.measurement.quality) == (160, again.quality)
    assert searched.best.measurement.samples == data.spec.samples["validation"]
    assert "float" in str(searched) and searched.table == str(searched)


def test_test_split_is_not_seen_while_searching(small_model, fresh_digits, search_options, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("tfbig.tuning.trials.rewound", lambda data: seen.append(data) or rewound(data))
    from tfbig.tuning.rewind import rewound

    search(small_model, fresh_digits(), directory=tmp_path / "s", **{**search_options, "trials": 1})
    assert seen and all(rewound(data).test is None for data in seen)


def test_recipe_of_the_best_gives_the_same_file(searched, small_model, fresh_digits):
    recipe = tfbig.Recipe.load(searched.folder / "best" / "recipe.yaml")
    assert recipe.stages == searched.recipe.stages and "epochs=1, seed=0" in recipe.description
    data = fresh_digits()
    again = tfbig.compress(
        small_model, recipe, train=data.train, validation=data.validation, test=data.test, epochs=1, seed=0, verbose=0
    )
    assert again.file.read_bytes() == searched.best.file.read_bytes()
    assert (searched.folder / "best" / "model.tflite").read_bytes() == searched.best.file.read_bytes()
    model = tfbig.load(searched.folder / "best" / "model.keras")
    assert model.input_shape == small_model.input_shape


def test_model_is_untouched(searched, small_model, model_file):
    for now, before in zip(small_model.get_weights(), tfbig.load(model_file).get_weights(), strict=True):
        np.testing.assert_array_equal(now, before)


def test_page_tells_it_all(searched):
    page = (searched.folder / "report.html").read_text()
    for title in ("The front", "The best recipe", "Trials", "Sensitivity of the layers"):
        assert f"<h2>{title}</h2>" in page
    for trial in searched.trials:
        assert trial.plan in page
    assert "<svg" in page and "http" not in re.sub(r"https://arxiv\.org\S+", "", page)
    assert tfbig.Recipe.load(searched.folder / "best" / "recipe.yaml").to_yaml().splitlines()[-1] in page


def test_sensitivity_orders_all_layers(searched):
    losses = list(searched.sensitivity.values())
    assert set(searched.sensitivity) == {"stem", "body", "classifier"} and losses == sorted(losses, reverse=True)


def test_finished_trials_are_not_run_again(searched, small_model, fresh_digits, search_options, monkeypatch):
    monkeypatch.setattr(compress_module.Run, "train", lambda *_: pytest.fail("trained again"))
    again = search(small_model, fresh_digits(), directory=searched.folder, **search_options)
    assert again.trials == searched.trials and again.files == searched.files


def test_result_is_saved_elsewhere(searched, tmp_path):
    saved = searched.save(tmp_path / "kept")
    assert saved.files[0].parent == tmp_path / "kept" / "files" and all(path.exists() for path in saved.files)
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == ["best", "files", "report.html", "report.json"]
    assert json.loads((tmp_path / "kept" / "report.json").read_text())["rows"]


def test_budget_is_kept_and_what_cannot_fit_is_not_trained(small_model, fresh_digits, search_options, capsys):
    limit = 7_000
    result = search(
        small_model, fresh_digits(), budget={"max_bytes": limit}, **{**search_options, "trials": 2, "verbose": 1}
    )
    assert all(path.stat().st_size <= limit for path in result.files)
    assert all("int8" in trial.plan for trial in result.trials)
    told = capsys.readouterr().out
    assert re.search(r"Trial 1 of 2: .*accuracy [\d.]+ %, [\d,]+ bytes", told) and "left" in told


def test_impossible_budget_says_how_far_the_best_is(small_model, fresh_digits, search_options):
    with pytest.raises(
        BudgetNotMet,
        match=r"No recipe can meet `budget`.*The best is .*int8: [\d,]+ bytes of at most 500 \([\d.]+ % over",
    ) as error:
        search(small_model, fresh_digits(), budget={"max_bytes": 500}, **search_options)
    assert error.value.result is None


def test_quality_that_is_not_reached_keeps_what_was_found(small_model, fresh_digits, search_options):
    options = {**search_options, "trials": 1, "space": {**search_options["space"], "sparsity": 0.9, "bits": "int8"}}
    budget = {"max_bytes": 7_000, "min_quality": 1.0}
    with pytest.raises(BudgetNotMet, match=r"in 1 trials. The best is .* accuracy [\d.]+ %, asked for 1;") as error:
        search(small_model, fresh_digits(), budget=budget, **options)
    assert all(path.exists() for path in error.value.result.files)


def test_one_failing_trial_is_one_failed_trial(small_model, fresh_digits, search_options, monkeypatch):
    whole = compress_module.Run.train

    def train(self, stage, model):
        if stage[0].name == "quantize":
            raise MemoryError("no room")
        return whole(self, stage, model)

    monkeypatch.setattr(compress_module.Run, "train", train)
    result = search(small_model, fresh_digits(), **search_options)
    failed = [trial for trial in result.trials if trial.reason]
    assert failed and all("MemoryError: no room" in trial.reason for trial in failed)
    assert "failed: Stage" in (result.folder / "report.html").read_text()


def test_no_trial_completed_is_an_error_with_the_reasons(small_model, fresh_digits, search_options, monkeypatch):
    def train(self, stage, model):
        raise RuntimeError("the disk is on fire")

    monkeypatch.setattr(compress_module.Run, "train", train)
    with pytest.raises(NoTrialCompleted, match="None of the 2 trials completed.*\n.*RuntimeError: the disk is on fire"):
        search(small_model, fresh_digits(), **{**search_options, "trials": 2})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"budget": {"max_bytes": 9_000}}, "holds a search with another budget"),
        ({"seed": 1}, r"holds a search with another seed \(0 there, 1 here\)"),
        ({"epochs": 2}, "holds a search with another epochs"),
    ],
)
def test_folder_of_another_search_is_refused(searched, small_model, fresh_digits, search_options, change, text):
    with pytest.raises(InvalidFile, match=text):
        search(small_model, fresh_digits(), directory=searched.folder, **{**search_options, **change})


def test_folder_of_another_model_is_refused(searched, small_model, fresh_digits, search_options):
    other = keras.models.clone_model(small_model)
    with pytest.raises(InvalidFile, match="holds a search with another model. Give the same model to go on"):
        search(other, fresh_digits(), directory=searched.folder, **search_options)


def test_folder_that_is_no_search_is_refused(small_model, fresh_digits, search_options, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InvalidFile, match="is not the folder of a search: .*Choose another, or delete it"):
        search(small_model, fresh_digits(), directory=tmp_path, **search_options)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"trials": 0}, InvalidArgument, "`trials` must be a whole number of at least 1, received 0"),
        ({"epochs": 0}, InvalidArgument, "`epochs` must be a whole number of at least 1, received 0"),
        ({"budget": {"max_size": 1}}, InvalidArgument, "Unknown limit in `budget`: 'max_size'"),
        ({"objective": "accurcy"}, InvalidArgument, "Unknown objective 'accurcy'"),
        ({"algorithm": "bayes"}, InvalidArgument, r"Unknown algorithm 'bayes'.*Did you mean 'bayesian'\?"),
        ({"optimizer": "adamm"}, InvalidArgument, "Unknown optimizer 'adamm'"),
        ({"metric": "acuracy"}, InvalidArgument, "Unknown metric 'acuracy'"),
        ({"model": "model.keras"}, InvalidModel, "`model` must be a Keras 3 model, received builtins.str"),
    ],
)
def test_bad_arguments_are_told_at_once(small_model, fresh_digits, options, kind, text):
    given = {"model": small_model, "data": fresh_digits(), **options}
    with pytest.raises(kind, match=text):
        search(given.pop("model"), given.pop("data"), **given)


def test_data_without_validation_is_told_at_once(small_model, fresh_digits):
    with pytest.raises(InvalidData, match="`data` has no validation split, which the search chooses by"):
        search(small_model, fresh_digits().train)
