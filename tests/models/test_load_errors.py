"""Bad files: each gets an error that says what is wrong and what to do, and no other exception gets out."""

import json
import pickle
import shutil
import zipfile
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

import tfbig
from tfbig.errors import InvalidFile, InvalidModel, TfbigError

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")


def model() -> keras.Model:
    return keras.Sequential([keras.Input((3,)), layers.Dense(4, name="hidden"), layers.Dense(2, name="scores")])


@pytest.fixture
def keras_file(tmp_path) -> Path:
    model().save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


@pytest.fixture
def h5_file(tmp_path) -> Path:
    old = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(4, name="hidden")])
    old.save(tmp_path / "model.h5")
    return tmp_path / "model.h5"


def repacked(path: Path, **changed: bytes | None) -> Path:
    """The archive with members replaced, by name with `_` for `.`, or left out where None."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {name.replace("_", "."): content for name, content in changed.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
    return path


def refused(path: Path, text: str, error: type = InvalidFile) -> None:
    with pytest.raises(error, match=text) as caught:
        tfbig.load(path)
    assert str(path) in str(caught.value)


def test_missing(tmp_path):
    refused(tmp_path / "gone.keras", "does not exist. Expected a model file")


@pytest.mark.parametrize(
    "name, content, text",
    [
        ("empty.keras", b"", "is empty"),
        ("text.keras", b"hello world", "zip archive and this is not one"),
        ("text.h5", b"hello world", "does not begin like an HDF5 file"),
        ("model.tflite", b"\x1c\x00\x00\x00TFL3", "tfbig.inspect"),
        ("model.pkl", pickle.dumps({"a": 1}), "A pickle runs code"),
        ("notes.txt", b"hello world", r"Expected a .keras archive, an .h5 file, or a SavedModel folder"),
    ],
)
def test_not_a_model_file(name, content, text, tmp_path):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, text)


def test_folder_that_is_no_saved_model(tmp_path):
    refused(tmp_path, "is a folder, but not a SavedModel")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_truncated_archive(share, keras_file):
    content = keras_file.read_bytes()
    keras_file.write_bytes(content[: int(len(content) * share)])
    refused(keras_file, "damaged or truncated")


@pytest.mark.parametrize("share", [0.01, 0.5, 0.9])
def test_truncated_h5(share, h5_file):
    content = h5_file.read_bytes()
    h5_file.write_bytes(content[: int(len(content) * share)])
    refused(h5_file, "damaged or truncated")


def test_archive_without_configuration(keras_file):
    refused(repacked(keras_file, config_json=None), "not a Keras model: it has no config.json")


def test_archive_whose_configuration_is_no_json(keras_file):
    refused(repacked(keras_file, config_json=b"{'a': "), "not valid JSON")


def test_archive_whose_configuration_is_something_else(keras_file):
    refused(repacked(keras_file, config_json=b"[1, 2]"), "not one of a Keras model")


def test_archive_with_damaged_weights(keras_file):
    path = repacked(keras_file, **{"model_weights_h5": b"\x89HDF\r\n\x1a\n" + b"\x00" * 100})
    refused(path, "damaged, or Keras .* cannot read it")


def test_weights_that_do_not_fit_the_archive(keras_file):
    with zipfile.ZipFile(keras_file) as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][1]["config"]["units"] = 7
    for layer in config["config"]["layers"]:
        layer.pop("build_config", None)
    refused(repacked(keras_file, config_json=json.dumps(config).encode()), "weights do not fit the configuration")


def test_weights_that_do_not_fit_the_h5(h5_file):
    with h5py.File(h5_file, "r+") as file:
        file.attrs["model_config"] = file.attrs["model_config"].replace('"units": 4', '"units": 7')
    refused(h5_file, r"weights do not fit the configuration. Layer 'hidden' expects .*\(3, 7\).*has .*\(3, 4\)")


def test_zip_bomb(keras_file):
    with zipfile.ZipFile(keras_file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("config.json", "w", force_zip64=True) as member:
            for _ in range(257):
                member.write(bytes(1 << 20))
    assert keras_file.stat().st_size < 1 << 21
    refused(keras_file, "looks like a zip bomb: config.json would unpack")


def test_array_bomb(h5_file):
    with h5py.File(h5_file, "r+") as file:
        group = file["model_weights/hidden"]
        name = group.attrs["weight_names"][0]
        del group[name]
        group.create_dataset(name, shape=(1 << 20, 1 << 12), dtype="float32", chunks=(1024, 1024), compression="gzip")
    refused(h5_file, "looks like a decompression bomb: weight .*kernel.* declares 17,179,869,184 bytes")


def test_weight_in_another_file(h5_file, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as other:
        other["weights"] = np.zeros((3, 4))
    with h5py.File(h5_file, "r+") as file:
        group = file["model_weights/hidden"]
        name = group.attrs["weight_names"][0]
        del group[name]
        group[name] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/weights")
    refused(h5_file, "is a link out of its place")


@pytest.mark.parametrize("library", [keras, tf_keras])
def test_weights_only(library, tmp_path):
    path = tmp_path / "some.weights.h5"
    library.Sequential([library.Input((3,)), library.layers.Dense(2)]).save_weights(path)
    refused(path, r"holds weights only.*model.load_weights\('")


def test_hdf5_of_something_else(tmp_path):
    with h5py.File(tmp_path / "table.h5", "w") as file:
        file["rows"] = [1, 2, 3]
    refused(tmp_path / "table.h5", "not one of a Keras model")


def test_saved_model_without_keras_metadata(tmp_path):
    class Plain(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 3])])
        def __call__(self, x):
            return x * 2.0

    tf.saved_model.save(Plain(), str(tmp_path / "plain"))
    refused(tmp_path / "plain", "SavedModel without Keras metadata.*Load the original model file")


def old_saved_model(folder: Path) -> Path:
    tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(4)]).save(folder)
    return folder


def test_saved_model_with_damaged_parts(tmp_path):
    folder = old_saved_model(tmp_path / "model")
    metadata = (folder / "keras_metadata.pb").read_bytes()
    (folder / "keras_metadata.pb").write_bytes(b"\xff\xff\xff\xff" + metadata)
    refused(folder, "is damaged: its SavedModel files cannot be read")
    (folder / "keras_metadata.pb").write_bytes(metadata)
    shutil.rmtree(folder / "variables")
    refused(folder, "its variables are missing or damaged")


def test_saved_model_of_a_subclass(tmp_path):
    class Own(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf_keras.layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    own = Own()
    own(np.zeros((1, 3), "float32"))
    own.save(tmp_path / "own")
    refused(tmp_path / "own", "subclassed model", InvalidModel)


def test_saved_model_with_a_lambda(tmp_path):
    tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Lambda(lambda x: x + 1.0)]).save(tmp_path / "model")
    refused(tmp_path / "model", "holds code")


def test_option_that_keras3_does_not_have(h5_file):
    with h5py.File(h5_file, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["config"]["groups"] = 2
        file.attrs["model_config"] = json.dumps(config)
    refused(h5_file, "layer 'hidden' of class Dense was saved with groups=2, which Keras 3's Dense", InvalidModel)


def test_tensorflow_operation_without_counterpart(tmp_path):
    x = tf_keras.Input((3,))
    tf_keras.Model(x, tf.math.erfinv(x)).save(tmp_path / "model.h5")
    refused(tmp_path / "model.h5", "calls tf.math.erfinv, which has no counterpart", InvalidModel)


def test_pruned_model_says_how_to_strip(tmp_path):
    from tensorflow_model_optimization.sparsity import keras as sparsity

    old = tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(4)])
    sparsity.prune_low_magnitude(old).save(tmp_path / "model.h5")
    refused(tmp_path / "model.h5", "class PruneLowMagnitude.*strip_pruning.*tfbig migrate", InvalidModel)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_only_our_errors_get_out_of_a_damaged_file(suffix, tmp_path):
    path = tmp_path / f"whole{suffix}"
    if suffix == ".keras":
        model().save(path)
    else:
        tf_keras.Sequential([tf_keras.Input((3,)), tf_keras.layers.Dense(4)]).save(path)
    content, damaged = path.read_bytes(), tmp_path / f"damaged{suffix}"

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.integers(0, len(content) - 1), st.binary(min_size=1, max_size=16))
    def check(place, noise):
        damaged.write_bytes(content[:place] + noise + content[place + len(noise) :])
        try:
            tfbig.load(damaged)
        except TfbigError as error:
            assert str(damaged) in str(error)

    check()
