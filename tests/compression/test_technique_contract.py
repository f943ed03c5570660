"""What holds for every technique there is: the tests run over the registry, so that none can be forgotten."""

from __future__ import annotations

import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest

import tfbig
from tfbig import compression
from tfbig.compression.technique import Technique
from tfbig.errors import InvalidArgument

# An instance of each that suits a model of 8 channels, and one with unusual options.
EXAMPLES: dict[str, tuple[Technique, Technique]] = {
    "cluster": (tfbig.Cluster(clusters=8), tfbig.Cluster(clusters=4, initialization="linear", layers={"stem": None})),
    "distill": (tfbig.Distill(), tfbig.Distill(temperature=2.0, alpha=0.9, features=["stem", ["body", "body"]])),
    "low_rank": (tfbig.LowRank(rank=0.25), tfbig.LowRank(energy=0.9, exclude=("stem",))),
    "preserve": (tfbig.Preserve(), tfbig.Preserve(clusters=False)),
    "prune": (
        tfbig.Prune(sparsity=0.8),
        tfbig.Prune(schedule="constant", block_size=(1, 2), layers={"stem": None, "Dense": 0.3}, begin=10, end=0.5),
    ),
    "prune_blocks": (
        tfbig.PruneBlocks(blocks=1, importance_data=np.ones((2, 8, 8, 1), "float32")),
        tfbig.PruneBlocks(latency=0.9, latency_of="int8", exclude=["body"]),
    ),
    "prune_channels": (
        tfbig.PruneChannels(flops=0.6, round_to=2),
        tfbig.PruneChannels(params=0.9, importance="l2", allocation="uniform", exclude=("classifier",)),
    ),
    "quantize": (tfbig.Quantize(), tfbig.Quantize("int16x8", exempt=["Dense", "st*"], freeze_after=0.5)),
}

every = pytest.mark.parametrize("name", compression.names())


def snapshot(model: keras.Model) -> tuple:
    weights = [(v.path, v.dtype, v.numpy().copy()) for v in model.variables]
    return type(model), weights, model.compiled, json.dumps(model.get_config(), default=str)


def assert_same(now: tuple, before: tuple) -> None:
    assert (now[0], now[2:]) == (before[0], before[2:])
    for (path, dtype, value), (path_before, dtype_before, value_before) in zip(now[1], before[1], strict=True):
        assert (path, dtype) == (path_before, dtype_before)
        np.testing.assert_array_equal(value, value_before)


def test_every_technique_has_an_example():
    assert sorted(EXAMPLES) == compression.names()


@every
def test_class_is_a_frozen_dataclass_named_like_its_file(name):
    cls = compression.technique_class(name)
    assert dataclasses.is_dataclass(cls) and cls.__dataclass_params__.frozen
    assert cls.name == name == cls.__module__.rpartition(".")[2]
    assert getattr(tfbig, cls.__name__) is cls
    assert cls.prepare is not Technique.prepare


@every
def test_docstring_explains_every_option_and_names_its_source(name):
    cls = compression.technique_class(name)
    text = inspect.getdoc(cls)
    assert "Reference" in text and "Args:" in text
    for field in dataclasses.fields(cls):
        assert f"{field.name}:" in text or f"{field.name}, " in text or f", {field.name}" in text, field.name


@every
@pytest.mark.parametrize("which", [0, 1])
def test_json_round_trip(name, which):
    technique = EXAMPLES[name][which]
    text = json.dumps({"name": name, **technique.get_config()})
    again = compression.technique_from_config(json.loads(text))
    assert type(again) is type(technique) and again == technique
    assert again.get_config() == technique.get_config()


@every
def test_unknown_option_is_answered_with_the_nearest(name):
    option = dataclasses.fields(compression.technique_class(name))[0].name
    with pytest.raises(InvalidArgument, match=f"Unknown option of {name} '{option}x'.*Did you mean '{option}'?"):
        compression.technique_from_config({"name": name, f"{option}x": 1})


@every
def test_options_cannot_be_changed_afterwards(name):
    technique = EXAMPLES[name][0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(technique, dataclasses.fields(technique)[0].name, 1)


@every
def test_by_hand_as_any_keras_model(name, small_model, fresh_digits, tmp_path):
    technique, data = EXAMPLES[name][0], fresh_digits()
    before = snapshot(small_model)
    prepared = technique.prepare(small_model)
    assert_same(snapshot(small_model), before)

    prepared.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = prepared.fit(data.train, epochs=2, verbose=0, shuffle=False, callbacks=technique.callbacks())
    assert np.isfinite(history.history["loss"]).all()
    assert_same(snapshot(small_model), before)

    trained = snapshot(prepared)
    finished = technique.finish(prepared)
    assert_same(snapshot(prepared), trained)
    technique.verify(finished)
    assert finished.input_shape == small_model.input_shape and finished.output_shape == small_model.output_shape

    images = next(iter(data.test))[0]
    expected = finished(images, training=False)
    finished.save(tmp_path / "finished.keras")
    np.testing.assert_allclose(tfbig.load(tmp_path / "finished.keras")(images, training=False), expected, atol=1e-5)
    # The export itself compares what the file computes with the model.
    assert tfbig.export(finished, tmp_path / "finished.tflite").stat().st_size > 1000


@every
def test_something_that_is_no_model_is_refused(name):
    with pytest.raises(tfbig.errors.InvalidModel, match="(?s)model.*(received|Keras)"):
        EXAMPLES[name][0].prepare("model.keras")
