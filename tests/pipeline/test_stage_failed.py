"""When a stage fails, what the stages before it reached is there, and the report tells the truth about it."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tfbig
from tfbig.pipeline import result as module
from tfbig.pipeline.compress import compress
from tfbig.pipeline.result import StageFailed


@pytest.fixture
def splits(fresh_digits):
    data = fresh_digits()
    return {"train": data.train, "validation": data.validation, "test": data.test, "epochs": 1, "verbose": 0}


@pytest.fixture
def disk_full_in_second_stage(monkeypatch):
    measure, calls = module.measure, []

    def failing(*args, **kwargs):
        calls.append(args)
        if len(calls) == 3:  # the original, the first stage, the second stage
            raise OSError(28, "No space left on device")
        return measure(*args, **kwargs)

    monkeypatch.setattr(module, "measure", failing)


def test_unexpected_error_keeps_the_last_good_result(small_model, splits, disk_full_in_second_stage, tmp_path):
    recipe = tfbig.Recipe([tfbig.Prune(sparsity=0.5), tfbig.Prune(sparsity=0.8)], name="mine")
    with pytest.raises(
        StageFailed, match=r"Stage 2 \(prune 0.8\) failed: OSError: \[Errno 28\] No space left"
    ) as caught:
        compress(small_model, recipe, **splits)
    result = caught.value.result
    assert [stage.name for stage in result.stages] == ["float", "1 prune 0.5"]
    kernel = result.model.get_layer("body").kernel.numpy()
    assert np.mean(kernel == 0) == pytest.approx(0.5, abs=1 / kernel.size)
    result.save(tmp_path / "kept")
    assert tfbig.Recipe.load(tmp_path / "kept" / "recipe.json").stages == recipe.stages[:1]
    report = json.loads((tmp_path / "kept" / "report.json").read_text())
    assert report["notes"][0].startswith("The recipe was not finished. Stage 2 (prune 0.8) failed: OSError")


def test_refused_stage_keeps_the_last_good_result(small_model, splits):
    with pytest.raises(StageFailed, match=r"Stage 2 \(quantize int8\) failed: .*'nothing'") as caught:
        compress(small_model, [tfbig.Prune(sparsity=0.5), tfbig.Quantize("int8", exempt="nothing")], **splits)
    assert [stage.name for stage in caught.value.result.stages] == ["float", "1 prune 0.5"]
    assert isinstance(caught.value.__cause__, tfbig.errors.InvalidArgument)


def test_first_stage_has_nothing_to_keep(small_model, splits):
    with pytest.raises(StageFailed, match=r"Stage 1 \(prune 0.5\) failed") as caught:
        compress(small_model, [tfbig.Prune(layers={"nothing": 0.9})], **splits)
    assert caught.value.result is None
