"""Clusters in the integer file: the same few integers in every channel, BatchNormalization folded or not."""

from __future__ import annotations

import gzip

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.measurement.constants import stored_values
from tfbig.measurement.flatbuffer import read_litert
from tfbig.measurement.litert import run_litert


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 192)
    return (rng.normal(size=(192, 8, 8, 3)) + y[:, None, None, None]).astype("float32"), y


@pytest.fixture(scope="module")
def model(data):
    keras.utils.set_random_seed(0)
    inputs = layers.Input((8, 8, 3))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 3, name="first")(inputs)))
    x = layers.ReLU()(layers.BatchNormalization()(layers.DepthwiseConv2D(3, name="depthwise")(x)))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(24, 1, name="second")(x)))
    model = keras.Model(inputs, layers.Dense(3, name="scores")(layers.Flatten()(x)))
    return trained(model, data, 4)


def trained(model: keras.Model, data: tuple, epochs: int) -> keras.Model:
    model.compile(keras.optimizers.Adam(3e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*data, epochs=epochs, verbose=0)
    return model


def run(technique, model: keras.Model, data: tuple) -> keras.Model:
    return technique.finish(trained(technique.prepare(model), data, 4))


@pytest.mark.parametrize("together", [False, True])
def test_all_channels_hold_the_same_few_integers(together, model, data, tmp_path):
    cluster, quantize = tfbig.Cluster(clusters=6), tfbig.Quantize("int8")
    if together:
        finished = quantize.finish(trained(quantize.prepare(cluster.prepare(model)), data, 6))
        finished = cluster.finish(finished)
    else:
        finished = run(quantize, run(cluster, model, data), data)
    path = tfbig.export(finished, tmp_path / "m.tflite")
    tensors = [t for _, op in read_litert(path).operations() for t in op.inputs if t is not None and t.data is not None]
    weights = [stored_values(t) for t in tensors if t.dtype == "int8" and t.elements > 100]
    assert len(weights) == 4 and max(np.unique(w).size for w in weights) <= 6
    expected = np.asarray(finished(data[0][:64], training=False))
    got = run_litert(path, [data[0][:64]])[0]
    low, high = next(m for m in finished.machines if m.name == "quantize").ranges.numpy()[-1]
    assert np.max(np.abs(got - expected)) <= 3.01 * (high - low) / 255


def test_a_table_that_the_output_layer_shares_keeps_its_clusters(tmp_path):
    """Rows are looked up in it, with one scale for all, and it is the matrix of the last layer, with one for each."""
    keras.utils.set_random_seed(0)
    tokens = layers.Input((6,), dtype="int32")
    table = layers.ReversibleEmbedding(16, 12)
    model = keras.Model(tokens, table(layers.Dense(12, activation="relu")(table(tokens)), reverse=True))
    x = np.random.default_rng(0).integers(0, 16, (64, 6))
    technique = tfbig.Cluster(clusters=6)
    quantized = tfbig.Quantize("int8").prepare(technique.finish(technique.prepare(model)))
    quantized.compile("sgd", "mse")
    quantized.fit(x, model.predict(x, verbose=0), verbose=0)
    file = tfbig.export(quantized, tmp_path / "tied.tflite")
    assert max(op.distinct_per_channel or 0 for op in tfbig.inspect(file).ops) <= 6
    [found] = run_litert(file, [x[:8].astype("int32")])
    np.testing.assert_allclose(found, quantized.predict(x[:8], verbose=0), atol=0.02 * np.ptp(found))


def test_training_goes_on_from_clusters_without_falling_back(model, data):
    clustered = run(tfbig.Cluster(clusters=8), model, data)
    finished = run(tfbig.Quantize("int8"), clustered, data)
    accuracy = [np.mean(m.predict(data[0], verbose=0).argmax(1) == data[1]) for m in (clustered, finished)]
    assert accuracy[1] >= accuracy[0] - 0.05


def test_zeros_stay_while_clusters_train(model, data):
    pruned = run(tfbig.Prune(sparsity=0.6), model, data)
    clustered = run(tfbig.Cluster(clusters=8), pruned, data)
    for name in ("first", "second", "scores"):
        before, after = (m.get_layer(name).kernel.numpy() for m in (pruned, clustered))
        np.testing.assert_array_equal(before == 0, after == 0)
        assert np.unique(after).size <= 8 and not np.array_equal(before, after)


def test_entropy_penalty_makes_the_gzipped_file_smaller(model, data):
    sizes = []
    for penalty in (0.0, 0.05):
        technique = tfbig.Cluster(clusters=16, entropy_penalty=penalty)
        finished = run(technique, model, data)
        technique.verify(finished)
        kernel = finished.get_layer("scores").kernel.numpy()
        sizes.append(len(gzip.compress(np.unique(kernel, return_inverse=True)[1].astype("uint8").tobytes())))
    assert sizes[1] < 0.8 * sizes[0]


def test_bad_entropy_penalty():
    with pytest.raises(tfbig.errors.InvalidArgument, match=r"`entropy_penalty` must be in \[0, inf\), received -1."):
        tfbig.Cluster(entropy_penalty=-1.0)
