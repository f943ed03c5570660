"""`tfbig migrate`: a model of TFMOT, and its checkpoint, into files of today."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import tf_keras

import tfbig

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


@pytest.fixture(scope="module")
def old_files(tmp_path_factory):
    from tfbig.compression.tfmot.toolkit import toolkit

    folder = tmp_path_factory.mktemp("old")
    plain = tf_keras.Sequential([tf_keras.Input((8,)), tf_keras.layers.Dense(4, activation="relu", name="dense")])
    model = toolkit().quantization.keras.quantize_model(plain)
    model.compile("sgd", "mse")
    rng = np.random.default_rng(0)
    model.fit(rng.random((32, 8), "float32"), rng.random((32, 4), "float32"), verbose=0)
    plain.save(folder / "plain.h5")
    model.save(folder / "qat.h5")
    model.save_weights(folder / "qat.weights.h5")
    return folder


def test_migrate(tfbig_command, old_files, tmp_path):
    outcome = tfbig_command("migrate", old_files / "qat.h5", "new.keras")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.match(
        r"^Wrote new.keras: \d+ parameters, 0.0% zeros; quantized layers, with their ranges: 1$", outcome.out
    )
    assert tfbig.load(tmp_path / "new.keras").output_shape == (None, 4)
    again = tfbig_command("migrate", old_files / "qat.h5", "new.keras")
    assert again.code == 1 and "`new.keras` exists already" in again.err


def test_migrate_to_litert_as_json(tfbig_command, old_files, tmp_path):
    outcome = tfbig_command("migrate", old_files / "qat.h5", "new.tflite", "--json")
    values = json.loads(outcome.out)
    assert values["file"] == "new.tflite" and values["quantized_layers"] == 1
    assert not tfbig.inspect(tmp_path / "new.tflite").float_ops


def test_migrate_a_checkpoint(tfbig_command, old_files):
    refused = tfbig_command("migrate", old_files / "qat.weights.h5", "new.keras")
    assert refused.code == 1 and "holds weights only" in refused.err
    options = ("--architecture", old_files / "plain.h5", "--quiet")
    outcome = tfbig_command("migrate", old_files / "qat.weights.h5", "new.keras", *options)
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


def test_migrate_an_old_file(tfbig_command, old_files):
    outcome = tfbig_command("migrate", old_files / "plain.h5", "plain.keras")
    assert (outcome.code, outcome.out) == (0, "Wrote plain.keras: 36 parameters, 0.0% zeros\n")
