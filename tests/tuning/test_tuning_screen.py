"""The file of a recipe is known before its training, and what follows from it is not asked for again."""

from __future__ import annotations

import pytest

import tfbig
from tfbig.measurement.samples import batches
from tfbig.tuning import screen as screen_module
from tfbig.tuning.budget import Budget, Figures
from tfbig.tuning.rehearsal import rehearse
from tfbig.tuning.screen import Screen
from tfbig.tuning.space import RecipeSpace

BASE = Figures(0.9, "accuracy", 20_000, 18_000, 1.0, 10_000)
LAYERS = ["stem", "classifier", "body"]


@pytest.mark.parametrize(
    ("recipe", "exact"),
    [
        ([tfbig.Quantize("int8")], True),
        ([tfbig.PruneChannels(params=0.8), tfbig.Prune(sparsity=0.8), tfbig.Quantize("int4")], True),
        ([(tfbig.Prune(sparsity=0.9), tfbig.Distill()), tfbig.Cluster(clusters=16)], False),
        ([tfbig.PruneBlocks(blocks=1), tfbig.Quantize("int8")], True),
    ],
    ids=["int8", "channels+sparse+int4", "sparse+clusters", "blocks+int8"],
)
def test_rehearsed_file_is_as_large_as_the_trained_one(wide_model, fresh_digits, recipe, exact):
    data = fresh_digits()
    recipe = tfbig.Recipe(recipe)
    inputs = next(batches(data.validation))[0]
    figures = rehearse(wide_model, recipe, inputs, latency=True)
    trained = tfbig.compress(
        wide_model,
        recipe,
        train=data.train,
        validation=data.validation,
        loss="sparse_categorical_crossentropy",
        epochs=1,
        verbose=0,
    ).stages[-1]
    assert figures.bytes == pytest.approx(trained.measurement.bytes, rel=0.0 if exact else 0.02)
    assert figures.gzip_bytes == pytest.approx(trained.measurement.gzip_bytes, rel=0.05)
    assert figures.latency_ms > 0 and figures.macs > 0 and figures.quality is None


@pytest.fixture
def screen(wide_model, tmp_path, monkeypatch):
    """A screen whose files have a byte for every tenth of a per cent of channels and non-zeros."""
    asked = []

    def rehearse(model, recipe, inputs, *, latency):
        asked.append(recipe)
        options = {t.name: t for stage in recipe.stages for t in stage}
        share = options["prune_channels"].flops if "prune_channels" in options else 1.0
        if share == 0.4:
            raise tfbig.errors.InvalidModel("not with this model")
        size = round(1000 * share * (1 - (options["prune"].sparsity if "prune" in options else 0.0)))
        return Figures(None, "", size, size, None, None)

    monkeypatch.setattr(screen_module, "rehearse", rehearse)
    made = Screen(wide_model, None, Budget(max_bytes=500), BASE, tmp_path / "screen.json")
    made.asked = asked
    return made


@pytest.fixture(scope="module")
def space(wide_model):
    return RecipeSpace(wide_model, LAYERS, epochs=1, given={"rank": 1.0, "bits": "int8"})


def values(**changes):
    return {"channels": 1.0, "sparsity": 0.0, "clusters": 0, "distill": False, "exempt": 0, **changes}


def test_too_large_is_dropped_and_all_that_is_no_smaller_with_it(screen, space):
    assert "750 bytes of at most 500 (50.0 % over)" in screen(space.plan(values(channels=0.75)))
    assert screen(space.plan(values())) == (
        "it is no smaller than prune channels 0.75, quantize int8, which was dropped"
    )
    assert screen(space.plan(values(channels=0.75, distill=True, clusters=16))) is not None
    assert screen(space.plan(values(channels=0.5))) is None
    assert screen(space.plan(values(channels=0.5, sparsity=0.7))) is None
    assert len(screen.asked) == 3
    assert screen.closest().plan == "prune channels 0.75, quantize int8"


def test_what_cannot_be_built_is_dropped_with_its_reason(screen, space):
    assert screen(space.plan(values(channels=0.4))) == "it cannot be built: not with this model"
    assert screen.closest() is None
    assert screen.any_fits([[space.plan(values(channels=0.4)), space.plan(values(channels=0.5))]])


def test_rehearsals_are_kept_in_the_folder(screen, space, wide_model, tmp_path):
    screen(space.plan(values(channels=0.75)))
    again = Screen(wide_model, None, Budget(max_bytes=500), BASE, tmp_path / "screen.json")
    assert again.dropped() == screen.dropped()
    assert again(space.plan(values(channels=0.75))) and len(screen.asked) == 1


def test_without_limits_on_the_file_nothing_is_rehearsed(screen, space):
    screen.budget, screen.active = Budget(max_drop=0.1), False
    assert screen(space.plan(values())) is None and not screen.asked
    nothing = RecipeSpace(screen.model, LAYERS, epochs=1).plan({**values(), "bits": "float32", "rank": 1.0})
    assert screen(nothing) == "it leaves the model as it is"
