"""A run that was stopped goes on behind its last finished stage, and ends where it would have ended."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

import tfbig
from tfbig import training
from tfbig.errors import InvalidFile, OutputExists
from tfbig.pipeline.compress import _kind, compress
from tfbig.pipeline.result import StageFailed

RECIPE = [tfbig.Prune(sparsity=0.5), tfbig.Cluster(clusters=8), (tfbig.Quantize("int8"), tfbig.Distill())]


class Trainings:
    """Counts the trainings, and stops the run in one of them."""

    def __init__(self, monkeypatch, stop_in: int | None = None):
        self.count, self.stop_in, self.fit = 0, stop_in, training.fit
        monkeypatch.setattr(training, "fit", self)

    def __call__(self, *args, **kwargs):
        self.count += 1
        if self.count == self.stop_in:
            raise KeyboardInterrupt
        return self.fit(*args, **kwargs)


@pytest.fixture(scope="module")
def run(small_model, fresh_digits):
    def run(*, model=small_model, recipe=RECIPE, **options):
        data = fresh_digits()
        given = {"train": data.train, "validation": data.validation, "test": data.test, "epochs": 2, "verbose": 0}
        return compress(model, recipe, **{**given, **options})

    return run


@pytest.fixture(scope="module")
def pruned(run, tmp_path_factory):
    """A finished run of one stage, and the folder that holds it."""
    folder = tmp_path_factory.mktemp("runs") / "pruned.partial"
    return run(recipe=RECIPE[:1], directory=folder), folder


@pytest.fixture
def folder(pruned, tmp_path):
    """A copy of that folder."""
    return Path(shutil.copytree(pruned[1], tmp_path / "pruned.partial"))


def test_resumed_run_equals_one_that_never_stopped(run, tmp_path, monkeypatch):
    whole = run()
    folder = tmp_path / "small.partial"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Trainings(patch, stop_in=3)
        run(directory=folder)
    trainings = Trainings(monkeypatch)
    resumed = run(directory=folder, resume=True)
    assert trainings.count == 1
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(whole.stages, resumed.stages, strict=True):
        assert (one.name, one.history) == (other.name, other.history)
        for figure in ("quality", "samples", "zero_fraction", "distinct_weights", "parameters"):
            assert getattr(one.measurement, figure) == getattr(other.measurement, figure)


def test_techniques_that_look_at_samples_get_them_and_the_order_of_the_data_stays(run, tmp_path, monkeypatch):
    recipe = [
        tfbig.PruneChannels(params=0.8, round_to=2, importance="taylor"),
        tfbig.PruneBlocks(blocks=1),
        tfbig.Prune(sparsity=0.2),
    ]
    whole = run(recipe=recipe)
    assert whole.model.count_params() < 0.8 * whole.stages[0].measurement.parameters
    folder = tmp_path / "small.partial"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Trainings(patch, stop_in=3)
        run(recipe=recipe, directory=folder)
    resumed = run(recipe=recipe, directory=folder, resume=True)
    for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_finished_run_trains_nothing_and_its_folder_goes_when_the_result_is_saved(
    run, pruned, folder, tmp_path, monkeypatch
):
    trainings = Trainings(monkeypatch)
    result = run(recipe=RECIPE[:1], directory=folder, resume=True)
    assert trainings.count == 0 and result.file.read_bytes() == pruned[0].file.read_bytes()
    result.save(tmp_path / "small")
    assert not folder.exists() and (tmp_path / "small" / "model.tflite").exists()
    assert str(result) and result.save(tmp_path / "again").file.exists()


def test_stage_without_its_figures_was_not_finished(run, folder, monkeypatch):
    (folder / "1-prune-0.5.json").unlink()
    trainings = Trainings(monkeypatch)
    run(recipe=RECIPE[:1], directory=folder, resume=True)
    assert trainings.count == 1
    assert json.loads((folder / "1-prune-0.5.json").read_text())["name"] == "1 prune 0.5"


def test_folder_of_a_stopped_run_is_not_overwritten(run, folder):
    with pytest.raises(
        OutputExists, match=r"`.*pruned.partial` holds a run that was stopped. Go on with it by resume=True"
    ):
        run(recipe=RECIPE[:1], directory=folder)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"recipe": [tfbig.Prune(sparsity=0.6)]}, "holds a run with another recipe. Give the same recipe to go on"),
        ({"epochs": 3}, r"holds a run with another epochs \(2 there, 3 here\)"),
        ({"seed": 1}, r"holds a run with another seed \(0 there, 1 here\)"),
    ],
)
def test_folder_of_another_run_is_refused(run, folder, change, text):
    with pytest.raises(InvalidFile, match=text):
        run(**{"recipe": RECIPE[:1], "directory": folder, "resume": True, **change})


def test_losses_of_other_weights_are_another_run():
    settings = [{"loss_weights": weights} for weights in ([1.0, 0.5], [0.0, 9.0], {"a": 1.0})]
    kinds = [str(_kind(each)) for each in settings]
    assert len(set(kinds)) == 3 and _kind(settings[0]) == settings[0]


def test_folder_of_another_model_is_refused(run, small_model, folder):
    other = keras.models.clone_model(small_model)
    with pytest.raises(InvalidFile, match="holds a run with another model. Give the same model to go on"):
        run(model=other, recipe=RECIPE[:1], directory=folder, resume=True)


def test_folder_that_is_no_run_is_refused(run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InvalidFile, match=r"is not the folder of a run: .*run.json.*Choose another, or delete it"):
        run(directory=tmp_path, resume=True)
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_failure_of_the_first_stage_leaves_no_folder(run, tmp_path):
    with pytest.raises(StageFailed):
        run(recipe=[tfbig.Prune(layers={"no such layer": 0.5})], directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
