"""ONNX files compute what the model computes, in float and with the integers that training found."""

from __future__ import annotations

import os

import keras
import numpy as np
import onnx
import pytest
from keras import layers

import tfbig
from tfbig.errors import ConversionFailed, InvalidArgument, InvalidData, InvalidFile, InvalidModel, MissingPackage
from tfbig.exporters import extras
from tfbig.exporters.formats import onnx as format_onnx
from tfbig.measurement.subject import subject_of


@pytest.fixture(scope="module")
def images(digits_arrays):
    return digits_arrays["x_test"]


@pytest.fixture(scope="module")
def trained(small_model, fresh_digits):
    prepared = tfbig.Quantize("int8").prepare(small_model)
    prepared.compile("adam", "sparse_categorical_crossentropy")
    prepared.fit(fresh_digits().train, epochs=1, verbose=0, shuffle=False)
    return prepared


def outputs(path, x):
    return subject_of(path).predict(x)


def scales(model):
    """The scale of the tensor that each QuantizeLinear writes."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    return {float(constants[n.input[1]]) for n in model.graph.node if n.op_type == "QuantizeLinear"}


@pytest.mark.parametrize("opset", [None, 13, 18])
def test_float_file_takes_any_batch(small_model, images, opset, tmp_path, capfd):
    capfd.readouterr()
    path = tfbig.export(small_model, tmp_path / "m.onnx", opset=opset)
    assert capfd.readouterr() == ("", "") and os.listdir(tmp_path) == ["m.onnx"]
    model = onnx.load(path)
    assert model.opset_import[0].version == (opset or 17)
    assert [i.name for i in model.graph.input] == ["image"] and [o.name for o in model.graph.output] == ["output_0"]
    for batch in (1, 7):
        want = small_model.predict(images[:batch], verbose=0)
        np.testing.assert_allclose(outputs(path, images[:batch])[0], want, atol=1e-5)


def test_trained_ranges_are_those_of_the_file(trained, images, digits_arrays, tmp_path):
    path = tfbig.export(trained, tmp_path / "m.onnx")
    model = onnx.load(path)
    ranges = [m for m in trained.machines if m.name == "quantize"][0].ranges.numpy()
    learned = {float(np.float32((high - low) / 255)) for low, high in ranges}
    found = scales(model)
    assert sum(any(abs(scale - s) < 1e-3 * s for s in found) for scale in learned) >= len(learned) - 1
    weights = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
    assert len(weights) == 3
    want, got = trained.predict(images, verbose=0), outputs(path, images)[0]
    assert np.max(np.abs(got - want)) < 0.1
    assert np.mean(got.argmax(-1) == want.argmax(-1)) > 0.97


def test_quantized_after_training(small_model, images, digits_arrays, tmp_path):
    data = (digits_arrays["x_test"], digits_arrays["y_test"])
    plain = tfbig.measure(tfbig.export(small_model, tmp_path / "f.onnx"), data)
    path = tfbig.export(small_model, tmp_path / "q.onnx", quantize="int8", calibration=digits_arrays["x_train"])
    quantized = tfbig.measure(path, data)
    assert quantized.quality >= plain.quality - 0.03
    assert quantized.parameters == plain.parameters and quantized.latency_ms is None
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_layers_named_exempt_stay_float(small_model, digits_arrays, tmp_path):
    prepared = tfbig.Quantize("int8", exempt=["body"]).prepare(small_model)
    prepared.compile("sgd", "sparse_categorical_crossentropy")
    prepared.fit(digits_arrays["x_train"][:64], digits_arrays["y_train"][:64], verbose=0)
    model = onnx.load(tfbig.export(prepared, tmp_path / "m.onnx"))
    weights = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) > 1]
    assert len(weights) == 2
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert "'body' was named in Quantize(exempt=...)" in facts["tfbig"]


def test_inputs_and_outputs_keep_the_order_of_the_model(tmp_path):
    keras.utils.set_random_seed(0)
    second, first = keras.Input((6,), name="second"), keras.Input((4,), dtype="int32", name="first")
    mixed = layers.Concatenate()([second, layers.Flatten()(layers.Embedding(9, 2)(first))])
    model = keras.Model([second, first], [layers.Dense(i + 1, name=f"d{i}")(mixed) for i in range(11)])
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(3, 6)).astype("float32"), rng.integers(0, 9, (3, 4))]
    path = tfbig.export(model, tmp_path / "m.onnx")
    for got, want in zip(outputs(path, x), model.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)
    litert = tfbig.export(model, tmp_path / "m.tflite")
    for got, want in zip(outputs(litert, x), model.predict(x, verbose=0), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"opset": 9}, "`opset` must be a whole number from 13 to 18, received 9"),
        ({"opset": True}, "`opset` must be a whole number from 13 to 18, received True"),
        ({"quantize": "dynamic"}, "Unknown value of `quantize` for ONNX 'dynamic'. Known: int8."),
        ({"quantize": "int8"}, "`quantize='int8'` needs `calibration`"),
        ({"sparse": True}, "`sparse` does not apply to 'm.onnx', received sparse=True. It is for .tflite."),
    ],
)
def test_bad_arguments(small_model, tmp_path, options, text):
    with pytest.raises(InvalidArgument, match=text):
        tfbig.export(small_model, tmp_path / "m.onnx", **options)
    assert os.listdir(tmp_path) == []


def test_models_that_onnx_cannot_hold_as_trained(small_model, digits_arrays, tmp_path):
    fresh = tfbig.Quantize("int8").prepare(small_model)
    with pytest.raises(InvalidModel, match="was prepared with Quantize but saw no data"):
        tfbig.export(fresh, tmp_path / "m.onnx")
    wide = tfbig.Quantize("int16x8").prepare(small_model)
    with pytest.raises(InvalidArgument, match=r"holds int8; the model is trained with Quantize\('int16x8'\)"):
        tfbig.export(wide, tmp_path / "m.onnx")


def test_missing_packages_are_named_with_the_line_that_installs_them(small_model, tmp_path, monkeypatch):
    found = extras.importlib.util.find_spec
    monkeypatch.setattr(extras.importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else found(name))
    with pytest.raises(MissingPackage, match=r'^ONNX export needs tf2onnx. Install: pip install "tfbig\[onnx\]"$'):
        tfbig.export(small_model, tmp_path / "m.onnx")


def test_a_file_that_computes_something_else_is_not_kept(small_model, tmp_path, monkeypatch):
    convert = format_onnx.run_isolated

    def wrong(*arguments, **options):
        facts = convert(*arguments, **options)
        return {**facts, "outputs": [output + 0.25 for output in facts["outputs"]]}

    monkeypatch.setattr(format_onnx, "run_isolated", wrong)
    with pytest.raises(ConversionFailed, match="Output 0 of the ONNX file differs from the Keras model by 0.25"):
        tfbig.export(small_model, tmp_path / "m.onnx")
    assert os.listdir(tmp_path) == []


def test_measuring_asks_for_data_that_fits(small_model, images, tmp_path):
    path = tfbig.export(small_model, tmp_path / "m.onnx")
    with pytest.raises(InvalidData, match=r"input 'image' takes samples of shape \(8, 8, 1\), received \(9, 9, 1\)"):
        tfbig.measure(path, (np.zeros((4, 9, 9, 1)), np.zeros(4)))
    with pytest.raises(InvalidData, match="takes the inputs image, received 2 arrays"):
        tfbig.measure(path, ([images, images], np.zeros(len(images))))


def test_weights_in_other_files_are_not_followed(small_model, tmp_path):
    model = onnx.load(tfbig.export(small_model, tmp_path / "m.onnx"))
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InvalidFile, match="keeps weights in other files .* which tfbig does not follow"):
        tfbig.measure(tmp_path / "m.onnx")


def test_grouped_convolutions_are_operations_too(tmp_path):
    inputs = keras.Input((6, 6, 4))
    model = keras.Model(inputs, layers.Conv2D(8, 3, groups=2)(inputs))
    x = np.random.default_rng(0).normal(size=(3, 6, 6, 4)).astype("float32")
    found = outputs(tfbig.export(model, tmp_path / "m.onnx"), x)
    np.testing.assert_allclose(np.reshape(found, (3, 4, 4, 8)), model.predict(x, verbose=0), atol=1e-5)


RECURRENT = {
    "lstm": lambda x: layers.LSTM(4)(x),
    "gru, masked": lambda x: layers.GRU(4)(layers.Masking()(x)),
    "bidirectional": lambda x: layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x),
    "cells": lambda x: layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])(x),
}


@pytest.mark.parametrize("kind", RECURRENT)
def test_recurrent_layers(kind, tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 5))
    model = keras.Model(inputs, RECURRENT[kind](inputs))
    x = np.random.default_rng(0).normal(size=(7, 6, 5)).astype("float32")
    x[:, 4:] = 0
    path = tfbig.export(model, tmp_path / "m.onnx")
    for batch in (1, 7):
        np.testing.assert_allclose(outputs(path, x[:batch])[0], model.predict(x[:batch], verbose=0), atol=1e-5)


def test_exact_gelu_and_resized_images(tmp_path, capfd):
    keras.utils.set_random_seed(0)
    resized = [layers.Conv2D(3, 3, activation="gelu"), layers.Resizing(33, 41), layers.Conv2D(2, 1)]
    model = keras.Sequential([keras.Input((19, 23, 2)), *resized])
    x = np.random.default_rng(0).normal(size=(2, 19, 23, 2)).astype("float32")
    path = tfbig.export(model, tmp_path / "m.onnx")
    np.testing.assert_allclose(outputs(path, x)[0], model.predict(x, verbose=0), atol=1e-4)
    declared = onnx.load(path).graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in declared][1:] == [33, 41, 2]
    assert "shape" not in capfd.readouterr().err  # that ONNX Runtime finds is another than declared


@keras.saving.register_keras_serializable(package="test_onnx")
class Sampling(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.seed = keras.random.SeedGenerator(1)

    def call(self, x):
        return x + keras.random.normal(keras.ops.shape(x), seed=self.seed)


def test_what_onnx_has_not_is_named(tmp_path):
    sound = layers.MelSpectrogram(
        fft_length=64, sequence_stride=32, sampling_rate=8000, num_mel_bins=8, name="spectrogram"
    )
    model = keras.Sequential([keras.Input((256,)), sound, layers.Flatten(), layers.Dense(2)])
    with pytest.raises(ConversionFailed, match=r"ONNX has no operation for RFFT \(in 'spectrogram/stft'\), Real"):
        tfbig.export(model, tmp_path / "m.onnx")
    noisy = keras.Sequential([keras.Input((4,)), Sampling(), layers.Dense(2)])
    with pytest.raises(ConversionFailed, match="and the model does, in 'sampling': it draws random numbers"):
        tfbig.export(noisy, tmp_path / "m.onnx")
