"""Which stages keep the answers of their teacher, and that a run asks for each sample once."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.compression.distillation import cache
from tfbig.pipeline.teaching import with_answers

STAGES = [(tfbig.Prune(sparsity=0.5), tfbig.Distill()), (tfbig.Quantize("int8"), tfbig.Distill())]


@pytest.fixture
def asked(monkeypatch):
    """How many samples the teacher was asked about, call by call."""
    counts, teach = [], cache._Answering.teach
    monkeypatch.setattr(
        cache._Answering, "teach", lambda self, keys, x: (counts.append(len(keys)), teach(self, keys, x))[1]
    )
    return counts


def run(model, data, train, folder=None):
    splits = {"train": train, "validation": None, "test": data.test}
    return tfbig.compress(model, STAGES, **splits, epochs=2, directory=folder, verbose=0)


def test_each_sample_is_asked_about_once_in_all_stages(small_model, fresh_digits, asked, tmp_path):
    data = fresh_digits()
    run(small_model, data, data.train, tmp_path / "run")
    assert sum(asked) == sum(len(y) for _, y in data.train)
    assert [folder.name for folder in (tmp_path / "run" / "answers").iterdir()]


def test_kept_answers_give_the_weights_that_the_teacher_gives(small_model, fresh_digits, monkeypatch):
    data = fresh_digits()
    kept = run(small_model, data, data.train)
    monkeypatch.setattr("tfbig.pipeline.compress.with_answers", lambda techniques, train, folder: train)
    data = fresh_digits()
    asked = run(small_model, data, data.train)
    for a, b in zip(kept.model.get_weights(), asked.model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_samples_that_are_new_in_every_epoch_train_without_a_warning(small_model, fresh_digits, asked):
    data = fresh_digits()
    noisy = data.train.map(lambda x, y: (x + tf.random.normal(tf.shape(x), stddev=0.01), y))
    assert run(small_model, data, noisy).stages[-1].measurement.quality > 0.3
    assert sum(asked) == 4 * sum(len(y) for _, y in data.train)  # In every epoch of both stages.


def test_nothing_is_kept_of_what_is_larger_than_the_samples_or_has_no_end(tmp_path):
    inputs = keras.Input((4,))
    wide = keras.Model(inputs, keras.layers.Dense(5)(inputs))
    narrow = keras.Model(inputs, keras.layers.Dense(4)(inputs))
    data = tf.data.Dataset.from_tensor_slices((np.zeros((6, 4), "float32"), np.zeros((6, 1)))).batch(3)
    for teacher, train, keeps in ((wide, data, False), (narrow, data, True), (narrow, data.repeat(), False)):
        given = with_answers([tfbig.Distill(teacher=teacher)], train, tmp_path)
        assert (given is not train) == keeps
    assert with_answers([tfbig.Quantize()], data, tmp_path) is data
