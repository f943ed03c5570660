"""Files of Keras 2, made here with tf_keras, give the same outputs in Keras 3."""

import hashlib
import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tf_keras
from old_models import OLD_MODELS, difference, inputs_of, old_model

import tfbig

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file:UserWarning")


def saved(model: tf_keras.Model, path: Path) -> Path:
    model.save(path)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", OLD_MODELS)
def test_outputs_are_equal(name, suffix, tmp_path):
    old = old_model(name)
    new = tfbig.load(saved(old, tmp_path / f"model{suffix}"))
    assert isinstance(new, keras.Model)
    assert difference(new, old, inputs_of(old)) <= 1e-5


@pytest.mark.parametrize("name", ["nested_and_shared", "recurrent", "raw_operations", "normalized"])
def test_saved_model_outputs_are_equal(name, tmp_path):
    old = old_model(name)
    new = tfbig.load(saved(old, tmp_path / "model"))
    assert difference(new, old, inputs_of(old)) <= 1e-5


@pytest.mark.parametrize("name", ["nested_and_shared", "recurrent", "raw_operations"])
def test_a_loaded_model_saves_and_loads_as_keras3(name, tmp_path):
    old = old_model(name)
    tfbig.load(saved(old, tmp_path / "old.h5")).save(tmp_path / "new.keras")
    assert difference(keras.saving.load_model(tmp_path / "new.keras"), old, inputs_of(old)) <= 1e-5


def test_real_architectures(tmp_path):
    old = tf_keras.applications.MobileNetV3Small(weights=None, input_shape=(64, 64, 3), classes=7)
    new = tfbig.load(saved(old, tmp_path / "mobilenet_v3.h5"))
    assert difference(new, old, inputs_of(old)) <= 1e-5
    assert new.count_params() == old.count_params()


def test_trainable_flags_and_names_stay(tmp_path):
    old = old_model("frozen")
    new = tfbig.load(saved(old, tmp_path / "model.h5"))
    assert len(new.trainable_weights) == len(old.trainable_weights)
    kept = [layer.name.replace("/", "_") for layer in old.layers]
    assert sorted(layer.name for layer in new.layers) == sorted(kept)


def test_nothing_is_written(tmp_path):
    paths = [saved(old_model("normalized"), tmp_path / name) for name in ("a.h5", "b.keras", "c")]

    def state():
        files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
        return [(p, hashlib.sha256(p.read_bytes()).hexdigest(), p.stat().st_mtime_ns) for p in files]

    before = state()
    for path in paths:
        tfbig.load(path)
    assert state() == before


def test_content_decides_not_the_suffix(tmp_path):
    old = old_model("normalized")
    path = saved(old, tmp_path / "model.h5").rename(tmp_path / "model.keras")
    assert difference(tfbig.load(str(path)), old, inputs_of(old)) <= 1e-5


def rewrite(path: Path, change) -> None:
    """Applies `change` to the configuration of an HDF5 file, as an older Keras would have written it."""
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        file.attrs["model_config"] = json.dumps(change(config) or config)


def test_keras_2_0_sequential_is_a_bare_list(tmp_path):
    old = tf_keras.Sequential([tf_keras.layers.Dense(4, input_shape=(3,)), tf_keras.layers.Dense(2)])
    path = saved(old, tmp_path / "model.h5")

    def change(config):
        layers = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]
        layers[0]["config"]["batch_input_shape"] = [None, 3]
        return {"class_name": "Sequential", "config": layers}

    rewrite(path, change)
    assert difference(tfbig.load(path), old, inputs_of(old)) <= 1e-6


def test_defaults_of_the_time_hold(tmp_path):
    """Keras before 2.1 wrote neither `reset_after` nor "truncated_normal", and meant what it then did."""
    gru = tf_keras.layers.GRU(3, reset_after=False, recurrent_activation="hard_sigmoid")
    dense = tf_keras.layers.Dense(2, kernel_initializer=tf_keras.initializers.VarianceScaling(distribution="uniform"))
    old = tf_keras.Sequential([tf_keras.Input((4, 2)), gru, dense])
    path = saved(old, tmp_path / "model.h5")

    def change(config):
        for layer in config["config"]["layers"]:
            for key in ("reset_after", "time_major"):
                layer["config"].pop(key, None)
        config["config"]["layers"][2]["config"]["kernel_initializer"]["config"]["distribution"] = "normal"

    rewrite(path, change)
    assert difference(tfbig.load(path), old, inputs_of(old)) <= 1e-6


def test_hard_sigmoid_is_the_one_of_keras_2():
    x = np.linspace(-4, 4, 81, dtype="float32")
    ours = keras.ops.convert_to_numpy(tfbig.models.activations.hard_sigmoid(x))
    np.testing.assert_allclose(ours, np.clip(0.2 * x + 0.5, 0, 1), atol=1e-6)
    assert np.abs(ours - keras.ops.convert_to_numpy(keras.ops.hard_sigmoid(x))).max() > 0.05


class Scaled(keras.layers.Layer):
    """The Keras 3 side of a custom layer; its Keras 2 side is made below."""

    def __init__(self, factor: float, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def build(self, input_shape):
        self.offset = self.add_weight(shape=(input_shape[-1],), name="offset")

    def call(self, x):
        return self.factor * x + self.offset


def old_scaled() -> type:
    class Scaled(tf_keras.layers.Layer):
        def __init__(self, factor, **kwargs):
            super().__init__(**kwargs)
            self.factor = factor

        def build(self, input_shape):
            self.offset = self.add_weight(shape=(input_shape[-1],), name="offset")

        def call(self, x):
            return self.factor * x + self.offset

        def get_config(self):
            return {**super().get_config(), "factor": self.factor}

    return Scaled


@pytest.mark.parametrize("suffix", [".h5", ".keras", ""])
def test_custom_layers(suffix, tmp_path):
    old = tf_keras.Sequential([tf_keras.Input((3,)), old_scaled()(3.0, name="scaled"), tf_keras.layers.Dense(2)])
    path = saved(old, tmp_path / f"model{suffix}")
    new = tfbig.load(path, custom_objects={"Scaled": Scaled})
    assert difference(new, old, inputs_of(old)) <= 1e-6
    with pytest.raises(tfbig.errors.InvalidModel, match="layer 'scaled' of class Scaled.*custom_objects={'Scaled'"):
        tfbig.load(path)


def test_old_lambda_only_when_trusted(tmp_path):
    old = tf_keras.Sequential(
        [tf_keras.Input((3,)), tf_keras.layers.Lambda(lambda x: x * 2.0), tf_keras.layers.Dense(2)]
    )
    path = saved(old, tmp_path / "model.h5")
    with pytest.raises(tfbig.errors.InvalidFile, match="holds code: layer 'lambda.*' of class Lambda.*unsafe=True"):
        tfbig.load(path)
    assert difference(tfbig.load(path, unsafe=True), old, inputs_of(old)) <= 1e-6
