"""What counts as structure that a later technique must keep."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfbig


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((200,)), keras.layers.Dense(100, name="first"), keras.layers.Dense(3)])


def with_weights(model, change):
    kernel = model.get_layer("first").kernel
    kernel.assign(change(kernel.numpy().copy()))
    return model


def test_a_zero_that_the_initializer_drew_is_no_sparsity(model):
    def one_zero(weights):
        weights[7, 7] = 0.0
        return weights

    assert not tfbig.Preserve().applies_to(with_weights(model, one_zero))


def test_a_thousandth_of_zeros_is_kept(model):
    def some_zeros(weights):
        weights[:2, :10] = 0.0
        return weights

    prepared = tfbig.Preserve().prepare(with_weights(model, some_zeros))
    assert prepared.preparation.techniques[0].found == (False, None)


@pytest.mark.parametrize("first_rows, found", [(0, True), (3, False), (150, False)])
def test_clusters_are_found_wherever_the_other_values_are(model, first_rows, found):
    def clustered(weights):
        shared = np.round(weights * 40) / 40 + 1.0
        shared[:first_rows] = weights[:first_rows]
        return shared[::-1] if first_rows == 3 else shared

    assert tfbig.Preserve(sparsity=False).applies_to(with_weights(model, clustered)) is found


def test_clusters_of_a_small_tensor_are_kept():
    """Nine weights each of eight channels share 32 values: hardly two of them a value."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 3), keras.layers.GlobalAveragePooling2D()])
    model.compile("adam", "mse")
    x, y = np.random.default_rng(0).normal(size=(32, 8, 8, 1)), np.ones((32, 8))
    for technique in (tfbig.Cluster(clusters=32), tfbig.Quantize("int8")):
        prepared = technique.prepare(model)
        prepared.compile("adam", "mse")
        prepared.fit(x, y, verbose=0)
        model = technique.finish(prepared)
    assert np.unique(model.layers[0].kernel.numpy()).size <= 32
    tfbig.Cluster(clusters=32).verify(model)


def test_zeros_alone_are_no_clusters(model):
    def some_zeros(weights):
        weights[:, ::2] = 0
        return weights

    assert not tfbig.Preserve(sparsity=False).applies_to(with_weights(model, some_zeros))
