"""What a stage promised is checked in the model and in the bytes of the file."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import InvariantBroken
from tfbig.pipeline import invariants


def copy_of(model: keras.Model) -> keras.Model:
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    return twin


def test_lost_zeros_are_found_in_the_model(small_model):
    with pytest.raises(InvariantBroken, match=r"has .* zeros, but Prune promised 80.00%.*tfbig.Preserve\(\)"):
        invariants.check_model([tfbig.Prune(sparsity=0.8)], small_model)


def test_kept_zeros_pass(small_model):
    model = copy_of(small_model)
    for name in ("stem", "body", "classifier"):
        kernel = model.get_layer(name).kernel
        kernel.assign(np.where(np.arange(kernel.numpy().size).reshape(kernel.shape) % 5, 0, kernel))
    invariants.check_model([tfbig.Prune(sparsity=0.79)], model)


def test_lost_zeros_are_found_in_the_file(small_model, tmp_path):
    model = copy_of(small_model)
    model.get_layer("classifier").kernel.assign(np.zeros((128, 10)))
    measurement = tfbig.measure(tfbig.export(model, tmp_path / "zeros.tflite"), latency=False)
    invariants.check_file(model, measurement)
    larger = dataclasses.replace(measurement, weights=measurement.weights * 2, zero_fraction=0.5)
    smaller = dataclasses.replace(measurement, weights=measurement.weights // 4, zero_fraction=0.1)
    for changed in (larger, smaller):  # as by constants of the converter's own, or tensors of zeros left out
        invariants.check_file(model, changed)
    lost = dataclasses.replace(measurement, zero_fraction=0.1)
    with pytest.raises(InvariantBroken, match=r"'.*zeros.tflite' has 10.00% zeros among its weights, the model"):
        invariants.check_file(model, lost)


def test_lost_clusters_are_found_in_the_file(small_model, tmp_path):
    technique = tfbig.Cluster(clusters=8)
    model = technique.finish(technique.prepare(small_model))
    file = tfbig.export(model, tmp_path / "clusters.tflite")
    invariants.check_clusters(model, file)
    spoiled = copy_of(model)
    kernel = spoiled.get_layer("classifier").kernel
    kernel.assign(kernel * np.linspace(0.5, 1.5, kernel.shape[0])[:, None])
    file = tfbig.export(spoiled, tmp_path / "spoiled.tflite")
    invariants.check_clusters(spoiled, file)
    with pytest.raises(InvariantBroken, match=r"spoiled.tflite' has \d+ distinct values in a channel .* the model 8\."):
        invariants.check_clusters(model, file)
