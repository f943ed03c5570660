"""Clusters behind a normalization that the converter would multiply into them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.exporters.standing_norms import standing_norms
from tfbig.measurement.litert import run_litert


def network(shape: tuple[int, ...] = (20,)) -> keras.Model:
    """Two matrices, BatchNormalization with statistics of its own between a ReLU and the second one."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input(shape)
    x = layers.BatchNormalization(name="merged")(layers.Dense(32)(inputs))
    x = layers.Dropout(0.1)(layers.BatchNormalization(name="standing")(layers.ReLU()(x)))
    model = keras.Model(inputs, layers.Dense(24)(x))
    rng = np.random.default_rng(0)
    for norm in (model.get_layer("merged"), model.get_layer("standing")):
        norm.set_weights([rng.uniform(0.5, 1.5, 32) for _ in range(4)])
    return model


def clustered(model: keras.Model) -> keras.Model:
    technique = tfbig.Cluster(clusters=6)
    return technique.finish(technique.prepare(model))


@pytest.mark.parametrize("shape", [(20,), (5, 20)])
@pytest.mark.parametrize("quantize", [None, "dynamic"])
def test_a_file_has_the_clusters_of_the_model(tmp_path, shape, quantize):
    file = tfbig.export(clustered(network(shape)), tmp_path / "model.tflite", quantize=quantize)
    matrices = [op for op in tfbig.inspect(file).ops if op.weights >= 20 * 32]
    assert len(matrices) == 2 and all(op.distinct_per_channel <= 6 for op in matrices)


@pytest.mark.parametrize("quantize", [False, True])
def test_factors_of_rms_normalization_stay_out_of_the_weights(tmp_path, quantize):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 20))
    model = keras.Model(inputs, layers.Dense(24)(layers.RMSNormalization(name="rms")(inputs)))
    model.get_layer("rms").scale.assign(np.random.default_rng(0).uniform(0.5, 1.5, 20))
    model = clustered(model)
    x = np.random.default_rng(1).normal(size=(8, 5, 20)).astype("float32")
    if quantize:
        model = tfbig.Quantize("int8").prepare(model)
        model.compile("sgd", "mse")
        model.fit(x, np.zeros((8, 5, 24)), verbose=0)
    file = tfbig.export(model, tmp_path / "rms.tflite")
    [matrix] = [op for op in tfbig.inspect(file).ops if op.weights == 20 * 24]
    assert matrix.distinct_per_channel <= 6
    np.testing.assert_allclose(run_litert(file, [x])[0], model.predict(x, verbose=0), atol=0.05 if quantize else 1e-5)


def test_only_what_would_spoil_clusters_is_changed():
    model, other = clustered(network()), network()
    with standing_norms(model, model.layers), standing_norms(other, other.layers):
        assert [layer.name for layer in model.layers if "call" in layer.__dict__] == ["standing"]
        assert not [layer for layer in other.layers if "call" in layer.__dict__]
    assert not [layer for layer in model.layers if "call" in layer.__dict__]


def test_zeros_alone_are_not_clusters():
    technique = tfbig.Prune(sparsity=0.9)
    model = technique.finish(technique.prepare(network()))
    with standing_norms(model, model.layers):
        assert not [layer for layer in model.layers if "call" in layer.__dict__]
