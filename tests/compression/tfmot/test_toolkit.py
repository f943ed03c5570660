"""TFMOT is imported late, and changes nothing else in the process."""

import os
import subprocess
import sys
import types

import keras
import pytest
import tensorflow as tf

from tfbig.compression.tfmot import toolkit as module
from tfbig.compression.tfmot.toolkit import is_tf_keras, toolkit
from tfbig.errors import MissingPackage


def run(code: str) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment.pop("TF_USE_LEGACY_KERAS", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stdout.strip()


def test_techniques_import_neither_tf_keras_nor_tfmot() -> None:
    code = (
        "import sys, tfbig; tfbig.Prune(), tfbig.Cluster(), tfbig.Quantize(); "
        "print([m for m in ('tf_keras', 'tensorflow_model_optimization') if m in sys.modules])"
    )
    assert run(code) == "[]"


def test_tf_keras_stays_out_of_the_users_environment() -> None:
    code = (
        "import os, keras, tensorflow as tf; from tfbig.compression.tfmot.toolkit import toolkit; toolkit(); "
        "print(os.environ.get('TF_USE_LEGACY_KERAS'), tf.keras.layers.Layer is keras.layers.Layer)"
    )
    assert run(code) == "None True"


def test_toolkit_is_tfmot() -> None:
    assert hasattr(toolkit().sparsity.keras, "prune_low_magnitude")
    assert tf.keras.Model is keras.Model


def test_a_keras_3_model_is_not_of_tf_keras() -> None:
    import tf_keras

    assert is_tf_keras(tf_keras.Sequential([tf_keras.layers.Dense(1)]))
    assert not is_tf_keras(keras.Sequential([keras.layers.Dense(1)]))
    assert not is_tf_keras("model.keras")


def test_a_missing_tfmot_is_named_with_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_model_optimization", None)
    with pytest.raises(MissingPackage, match="pip install tensorflow-model-optimization setuptools"):
        module.toolkit.__wrapped__()


def test_a_process_whose_keras_is_tf_keras_already(monkeypatch: pytest.MonkeyPatch) -> None:
    import tf_keras

    monkeypatch.setattr(module, "tf", types.SimpleNamespace(keras=tf_keras))
    assert hasattr(module.toolkit.__wrapped__().sparsity.keras, "prune_low_magnitude")
