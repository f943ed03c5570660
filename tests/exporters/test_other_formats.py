"""C arrays, TensorRT, the files of Keras, and what every format has to prove."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfbig
from tfbig.errors import ConversionFailed, InvalidArgument, InvalidFile, InvalidModel, OutputExists
from tfbig.exporters.formats import tensorrt
from tfbig.exporters.verification import check_outputs
from tfbig.isolation import shut_down
from tfbig.measurement.subjects.c_array import array_of

MAIN = """
#include <stdio.h>
#include "digit_net.h"
int main(void) {
  fwrite(digit_net_data, 1, digit_net_data_size, stdout);
  return ((unsigned long)digit_net_data) % 16;
}
"""


@pytest.mark.parametrize(("suffix", "compiler"), [(".c", "gcc"), (".cc", "g++")])
def test_c_array_compiles_and_holds_the_litert_file(small_model, digits_arrays, tmp_path, suffix, compiler):
    options = {"quantize": "int8", "calibration": digits_arrays["x_train"]}
    path = tfbig.export(small_model, tmp_path / f"digit_net{suffix}", **options)
    assert sorted(os.listdir(tmp_path)) == [f"digit_net{suffix}", "digit_net.h"]
    content = array_of(path)
    assert content == tfbig.export(small_model, tmp_path / "m.tflite", **options, sparse=False).read_bytes()
    if shutil.which(compiler):
        (tmp_path / f"main{suffix}").write_text(MAIN)
        sources = [f"main{suffix}", path.name]
        subprocess.run([compiler, "-Wall", "-Werror", *sources, "-o", "program"], cwd=tmp_path, check=True)
        assert subprocess.run([tmp_path / "program"], capture_output=True, check=True).stdout == content
    measured = tfbig.measure(path, (digits_arrays["x_test"], digits_arrays["y_test"]), runs=2)
    assert measured.bytes == len(content) and measured.quality > 0.7 and measured.latency_ms > 0


def test_c_names_are_names_of_c(small_model, tmp_path):
    path = tfbig.export(small_model, tmp_path / "8-bit net.cc")
    assert "const unsigned char model_8_bit_net_data[]" in path.read_text()
    assert '#include "8-bit net.h"' in path.read_text()
    path = tfbig.export(small_model, tmp_path / "größe.cc")
    text = path.read_text(encoding="utf-8")
    assert "const unsigned char gr__e_data[]" in text and '#include "größe.h"' in text


def test_files_that_come_along_are_not_overwritten_either(small_model, tmp_path):
    (tmp_path / "m.h").write_text("mine")
    with pytest.raises(OutputExists, match=r"m.h` exists already"):
        tfbig.export(small_model, tmp_path / "m.cc", overwrite=False)
    assert (tmp_path / "m.h").read_text() == "mine" and os.listdir(tmp_path) == ["m.h"]


@pytest.mark.parametrize("text", ["", "int main() {}", "unsigned char a[] = {0x100}", "unsigned char a[] = {x}"])
def test_c_files_without_a_model(tmp_path, text):
    (tmp_path / "m.cc").write_text(text)
    with pytest.raises(InvalidFile, match="m.cc` holds no array of bytes as tfbig.export writes it"):
        tfbig.measure(tmp_path / "m.cc")


@pytest.mark.parametrize("suffix", [".h5", ".hdf5", ".keras"])
def test_keras_files_come_back(small_model, digits_arrays, tmp_path, suffix, capfd):
    capfd.readouterr()
    path = tfbig.export(small_model, tmp_path / f"m{suffix}")
    assert capfd.readouterr() == ("", "")
    x = digits_arrays["x_test"][:8]
    np.testing.assert_allclose(tfbig.load(path).predict(x, verbose=0), small_model.predict(x, verbose=0), atol=1e-6)


def test_prepared_models_go_into_keras_files_only(small_model, tmp_path):
    prepared = tfbig.Prune(0.5).prepare(small_model)
    assert tfbig.load(tfbig.export(prepared, tmp_path / "m.keras")).machines[0].name == "prune"
    with pytest.raises(InvalidModel, match="'small' is prepared for compression, whose state an .h5 file cannot hold"):
        tfbig.export(prepared, tmp_path / "m.h5")


def test_h5_holds_no_subclassed_model(tmp_path):
    class Net(keras.Model):
        def __init__(self):
            super().__init__(name="net")
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    model = Net()
    model(np.zeros((1, 3), "float32"))
    with pytest.raises(InvalidModel, match=r"'net' is subclassed \(Net\); an .h5 file holds Functional and Sequential"):
        tfbig.export(model, tmp_path / "m.h5")


class Forgetful(layers.Layer):
    """Comes back as something else: `factor` is not in its config."""

    def __init__(self, factor=1.0, **options):
        super().__init__(**options)
        self.factor = factor

    def call(self, x):
        return x * self.factor

    def get_config(self):
        return super().get_config()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_a_keras_file_that_comes_back_different_is_not_kept(tmp_path, suffix):
    model = keras.Sequential([keras.Input((3,)), Forgetful(3.0)])
    with pytest.raises(ConversionFailed, match=f"Output 0 of the {suffix} file differs from the Keras model by"):
        tfbig.export(model, tmp_path / f"m{suffix}")
    assert os.listdir(tmp_path) == []


def test_tensorrt_without_tensorrt_says_the_next_command(small_model, tmp_path):
    with pytest.warns(
        UserWarning, match="TensorRT is not installed, so m.onnx was written. On the GPU run: (.*)"
    ) as told:
        path = tfbig.export(small_model, tmp_path / "m.engine")
    assert path.name == "m.onnx" and os.listdir(tmp_path) == ["m.onnx"]
    command = str(told[0].message).partition("run: ")[2]
    assert command == (
        "trtexec --onnx=m.onnx --saveEngine=m.engine --minShapes=image:1x8x8x1 --optShapes=image:8x8x8x1 "
        "--maxShapes=image:32x8x8x1"
    )


def test_tensorrt_gets_zero_points_of_zero(small_model, digits_arrays, tmp_path):
    import onnx

    with pytest.warns(UserWarning, match="--int8$"):
        path = tfbig.export(
            small_model, tmp_path / "m.engine", quantize="int8", calibration=digits_arrays["x_train"][:32]
        )
    model = onnx.load(path)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    zeros = [constants[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
    assert zeros and not any(np.any(z) for z in zeros)


TENSORRT = '''
"""Stands in for TensorRT: takes the same calls, and writes down what it was asked for."""
class Logger:
    ERROR = 1
    def __init__(self, level): pass
class NetworkDefinitionCreationFlag:
    EXPLICIT_BATCH = 0
class OnnxParser:
    num_errors = 1
    def __init__(self, network, logger): self.network = network
    def parse(self, content):
        self.network.append(content)
        return b"refuse" not in content
    def get_error(self, i): return "no such operator"
class Profile:
    def __init__(self): self.shapes = []
    def set_shape(self, *shape): self.shapes.append(shape)
class Config:
    def add_optimization_profile(self, profile): self.profile = profile
class Builder:
    def __init__(self, logger): pass
    def create_network(self, flags): return []
    def create_builder_config(self): return Config()
    def create_optimization_profile(self): return Profile()
    def build_serialized_network(self, network, config): return repr((len(network[0]), config.profile.shapes)).encode()
'''


def test_tensorrt_builds_the_engine_where_it_is_installed(small_model, tmp_path, monkeypatch):
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "tensorrt.py").write_text(TENSORRT)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    shut_down()  # The child gets its paths when it starts.
    try:
        path = tfbig.export(small_model, tmp_path / "out" / "m.engine")
    finally:
        shut_down()
    assert path.name == "m.engine" and sorted(os.listdir(tmp_path / "out")) == ["m.engine", "m.onnx"]
    size = (tmp_path / "out" / "m.onnx").stat().st_size
    shape = ("image", (1, 8, 8, 1), (8, 8, 8, 1), (32, 8, 8, 1))
    assert path.read_bytes() == repr((size, [shape])).encode()


def test_trtexec_quotes_what_a_shell_would_break():
    command = tensorrt.trtexec("my net.onnx", "my net.engine", {"x": (3,)}, int8=True)
    assert "'--onnx=my net.onnx'" in command and command.endswith("--int8")


def test_verification_names_the_worst_output():
    good, bad, worse = np.ones((2, 3)), np.ones((2, 3)) + 0.01, np.ones((2, 3)) + 0.1
    check_outputs("X file", [good], [good + 1e-4], exact=True)
    with pytest.raises(
        ConversionFailed, match="Output 1 of the X file differs from the Keras model by 0.1 .allowed 0.001"
    ):
        check_outputs("X file", [bad, worse], [good, good], exact=True)
    check_outputs("X file", [worse], [good], exact=False)
    with pytest.raises(ConversionFailed, match="by 2 .allowed 1, root mean square.*Give more calibration data"):
        check_outputs("X file", [good * 3], [good], exact=False)
    with pytest.raises(ConversionFailed, match="has 1 outputs, the model 2"):
        check_outputs("X file", [good], [good, good], exact=True)
    with pytest.raises(ConversionFailed, match="values that are not finite"):
        check_outputs("X file", [good * np.nan], [good], exact=True)


def test_options_name_the_formats_that_have_them(small_model, tmp_path):
    with pytest.raises(
        InvalidArgument, match="`opset` does not apply to 'm.tflite', received opset=17. .*.engine, .onnx."
    ):
        tfbig.export(small_model, tmp_path / "m.tflite", opset=17)


@pytest.fixture(scope="module")
def text_model():
    texts = keras.Input((), dtype="string", name="text")
    ids = layers.TextVectorization(vocabulary=["some", "text"], output_sequence_length=4)(texts)
    return keras.Model(texts, layers.Dense(2)(layers.Embedding(4, 3)(ids)), name="words")


@pytest.mark.parametrize("name", ["m.tflite", "m.onnx", "m.c"])
def test_text_is_refused_where_it_cannot_be_cut_into_words(text_model, name, tmp_path):
    with pytest.raises(InvalidModel, match="'words' takes text at its input 'text', .* number the names beside it"):
        tfbig.export(text_model, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["m.keras", "folder"])
def test_text_goes_where_it_can(text_model, name, tmp_path):
    assert tfbig.export(text_model, tmp_path / name).exists()


@pytest.mark.parametrize("name", ["m.keras", "m.h5", "folder"])
def test_open_sizes_stay_open_where_the_format_has_them(name, tmp_path):
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs)), name="any_size")
    path = tfbig.export(model, tmp_path / name)
    x = np.random.default_rng(0).random((5, 7, 9, 3), np.float32)
    if path.suffix:
        received = tfbig.load(path)(x)
    else:
        loaded = tf.saved_model.load(str(path))
        assert "serving_default" in loaded.signatures
        received = loaded.serve(x)
    np.testing.assert_allclose(received, model(x), atol=1e-6)
    with pytest.raises(InvalidModel, match="'any_size' leaves the shape of its input .* LiteRT or ONNX file needs"):
        tfbig.export(model, tmp_path / "m.tflite")
