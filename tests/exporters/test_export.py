"""Exported files compute what the model computes, whole or not at all, and without a word."""

from __future__ import annotations

import contextlib
import os
import re
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfbig
from tfbig.errors import ConversionFailed, InvalidArgument, InvalidData, InvalidModel, OutputExists
from tfbig.exporters import registry
from tfbig.exporters.formats import litert
from tfbig.measurement.litert import run_litert

SCHEMES = {
    # scheme: what inspect calls it, and the largest error of a probability
    "dynamic": ("dynamic range", 0.05),
    "float16": ("float16", 0.01),
    "int8": ("int8", 0.1),
    "int16x8": ("int16x8", 0.05),
    "int4": ("int8 (int4 weights)", 0.6),
    "weight_only_int8": ("weight-only (int8 weights)", 0.05),
    "weight_only_int4": ("weight-only (int4 weights)", 0.6),
}


@pytest.fixture(scope="module")
def images(digits_arrays):
    return digits_arrays["x_test"][:64]


@pytest.fixture(scope="module")
def expected(small_model, images):
    return small_model.predict(images, verbose=0)


def test_every_scheme_is_tested():
    assert set(SCHEMES) == set(litert._SCHEMES)


@pytest.mark.parametrize("name", registry.names())
def test_every_format_says_its_suffixes_and_writes(name, small_model, tmp_path):
    writer = registry[name]
    for suffix in writer.suffixes:
        others = [registry[other].suffixes for other in registry.names() if other != name]
        assert not any(suffix in suffixes for suffixes in others)
        folder = tmp_path / f"as{suffix}"
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="TensorRT is not installed")
            path = tfbig.export(small_model, folder / f"model{suffix}")
        assert path.exists() and {file.stem for file in folder.iterdir()} == {"model"}


def test_float_formats_compute_what_the_model_computes(small_model, images, expected, tmp_path, capfd):
    capfd.readouterr()
    for name in ("model.tflite", "model.keras", "model"):
        tfbig.export(small_model, tmp_path / name)
    assert capfd.readouterr() == ("", "")
    np.testing.assert_allclose(run_litert(tmp_path / "model.tflite", [images])[0], expected, atol=1e-5)
    np.testing.assert_allclose(tfbig.load(tmp_path / "model.keras").predict(images, verbose=0), expected, atol=1e-6)
    served = tf.saved_model.load(str(tmp_path / "model"))
    np.testing.assert_allclose(served.serve(images), expected, atol=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_quantized_after_training(scheme, small_model, images, expected, digits_arrays, tmp_path, capfd):
    calibration = digits_arrays["x_train"] if scheme in ("int8", "int16x8", "int4") else None
    file = tfbig.export(small_model, tmp_path / "q.tflite", quantize=scheme, calibration=calibration)
    assert capfd.readouterr() == ("", "")
    said, tolerance = SCHEMES[scheme]
    inspection = tfbig.inspect(file)
    assert inspection.scheme.startswith(said)
    assert np.max(np.abs(run_litert(file, [images])[0] - expected)) < tolerance
    if scheme in ("int8", "int16x8", "int4"):
        assert not [op for op in inspection.ops if op.arithmetic == "float"]
    weights = sum(v.shape.num_elements() for v in small_model.trainable_variables if len(v.shape) > 1)
    assert sum(inspection.bytes_by_dtype.values()) < 4 * weights


def test_calibration_in_every_form(small_model, digits_arrays, tmp_path):
    x, y = digits_arrays["x_train"][:64], digits_arrays["y_train"][:64]
    forms = {
        "array": x,
        "list": [x],
        "pair": (x, y),
        "dataset": tf.data.Dataset.from_tensor_slices((x, y)).batch(16),
        "unlabelled": tf.data.Dataset.from_tensor_slices(x).batch(16),
    }
    files = {
        name: tfbig.export(small_model, tmp_path / f"{name}.tflite", quantize="int8", calibration=form)
        for name, form in forms.items()
    }
    first, *others = [run_litert(file, [x])[0] for file in files.values()]
    for other in others:
        np.testing.assert_array_equal(other, first)


@pytest.mark.parametrize(
    ("calibration", "kind", "text"),
    [
        (
            None,
            InvalidArgument,
            "needs `calibration`: .*calibration=data.train .on the command line --data., or train",
        ),
        (np.zeros((5, 7, 8, 1)), InvalidData, r"must give inputs of shape \[\(8, 8, 1\)\] .*received \[\(7, 8, 1\)\]"),
        (np.zeros((0, 8, 8, 1)), InvalidData, "`calibration` is empty. Give at least a few dozen typical inputs."),
    ],
)
def test_calibration_that_does_not_do(small_model, tmp_path, calibration, kind, text):
    with pytest.raises(kind, match=text):
        tfbig.export(small_model, tmp_path / "q.tflite", quantize="int8", calibration=calibration)
    assert os.listdir(tmp_path) == []


def test_several_inputs_and_outputs(tmp_path):
    keras.utils.set_random_seed(0)
    a, b = keras.Input((6,), name="a"), keras.Input((4,), name="b")
    joined = layers.Concatenate()([layers.Dense(5, activation="relu")(a), b])
    model = keras.Model({"b": b, "a": a}, [layers.Dense(2, name="two")(joined), layers.Dense(3, name="three")(joined)])
    file = tfbig.export(model, tmp_path / "several.tflite")
    rng = np.random.default_rng(0)
    given = {"a": rng.normal(size=(5, 6)).astype("float32"), "b": rng.normal(size=(5, 4)).astype("float32")}
    for got, want in zip(run_litert(file, given), model(given), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_model_without_weights(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.ReLU()])
    file = tfbig.export(model, tmp_path / "relu.tflite")
    np.testing.assert_array_equal(run_litert(file, [np.array([[-1, 0, 1, 2]], "float32")])[0], [[0, 0, 1, 2]])


def test_exported_model_is_untouched(small_model, model_file, digits_arrays, tmp_path):
    before = [v.numpy() for v in small_model.variables]
    tfbig.export(small_model, tmp_path / "q.tflite", quantize="int8", calibration=digits_arrays["x_train"])
    for now, then in zip(small_model.variables, before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.fixture(scope="module")
def pruned(small_model):
    model = keras.models.clone_model(small_model)
    model.set_weights(small_model.get_weights())
    for name in ("body", "classifier"):
        kernel = model.get_layer(name).kernel
        kernel.assign(np.where(np.random.default_rng(0).random(kernel.shape) < 0.9, 0, kernel))
    return model


def test_zeros_are_stored_compactly_on_request(pruned, images, tmp_path):
    dense = tfbig.export(pruned, tmp_path / "dense.tflite", sparse=False)
    sparse = tfbig.export(pruned, tmp_path / "sparse.tflite", sparse=True)
    assert sparse.stat().st_size < dense.stat().st_size
    np.testing.assert_allclose(run_litert(sparse, [images])[0], run_litert(dense, [images])[0], atol=1e-6)
    zeros = [tfbig.measure(file, latency=False).zero_fraction for file in (dense, sparse)]
    assert zeros[0] == zeros[1] > 0.8


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("m.tflit", {}, r"has the suffix '.tflit'. Expected one of .*.keras, .*or none for a SavedModel.* '.tflite'\?"),
        ("m.tflite", {"quantize": "int9"}, "Unknown value of `quantize` 'int9'. Known: .*Did you mean 'int8'?"),
        ("m.keras", {"quantize": "int8"}, "`quantize` does not apply to 'm.keras', received quantize='int8'"),
        ("m", {"calibration": [1]}, r"`calibration` does not apply to 'm', received calibration=\[1\]"),
    ],
)
def test_bad_arguments(small_model, tmp_path, name, options, text):
    with pytest.raises(InvalidArgument, match=text):
        tfbig.export(small_model, tmp_path / name, **options)
    assert os.listdir(tmp_path) == []


def test_not_a_model(tmp_path):
    with pytest.raises(InvalidModel, match="`model` must be a Keras 3 model, received builtins.str. Load a file with"):
        tfbig.export("model.keras", tmp_path / "m.tflite")


def test_open_input_shape_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((None, 4)), layers.Dense(3)], name="open")
    with pytest.raises(InvalidModel, match=r"leaves the shape of its input .* open: \(None, None, 4\)") as refused:
        tfbig.export(model, tmp_path / "m.tflite")
    advice = str(refused.value).split("for example with ")[1].rstrip(".")
    assert advice == "inputs = keras.Input((128, 4)); model = keras.Model(inputs, model(inputs))"
    known = {"keras": keras, "model": model}
    exec(advice, known)
    assert tfbig.export(known["model"], tmp_path / "m.tflite").exists()


def test_existing_file_is_kept_unless_overwrite(small_model, tmp_path):
    (tmp_path / "m.tflite").write_text("mine")
    with pytest.raises(OutputExists, match="m.tflite` exists already"):
        tfbig.export(small_model, tmp_path / "m.tflite", overwrite=False)
    assert (tmp_path / "m.tflite").read_text() == "mine"
    assert tfbig.export(small_model, tmp_path / "m.tflite", overwrite=True).stat().st_size > 1000


@pytest.mark.parametrize("error", [ConversionFailed("`convert` was killed by SIGSEGV"), KeyboardInterrupt()])
def test_failed_conversion_leaves_the_old_file(small_model, tmp_path, monkeypatch, error):
    (tmp_path / "m.tflite").write_text("old")

    def failing(target, folder, output, **options):
        with open(output, "w") as half:
            half.write("half")
        raise error

    monkeypatch.setattr(litert, "run_isolated", failing)
    with pytest.raises(type(error)):
        tfbig.export(small_model, tmp_path / "m.tflite")
    assert os.listdir(tmp_path) == ["m.tflite"] and (tmp_path / "m.tflite").read_text() == "old"


def test_file_that_computes_something_else_is_not_kept(small_model, tmp_path, monkeypatch):
    convert = litert.run_isolated

    def wrong(*arguments, **options):
        facts = convert(*arguments, **options)
        return {**facts, "outputs": [[output + 0.5 for output in outputs] for outputs in facts["outputs"]]}

    monkeypatch.setattr(litert, "run_isolated", wrong)
    with pytest.raises(ConversionFailed, match=r"Output 0 of the LiteRT file differs from the Keras model by 0.5"):
        tfbig.export(small_model, tmp_path / "m.tflite")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("flipped", "kept"), [(1, True), (4, False)])
def test_quantized_file_is_judged_by_several_inputs(small_model, digits_arrays, tmp_path, monkeypatch, flipped, kept):
    convert = litert.run_isolated

    def wrong(*arguments, **options):
        facts = convert(*arguments, **options)
        outputs = [[-y / 2 if probe < flipped else y for y in ys] for probe, ys in enumerate(facts["outputs"])]
        return {**facts, "outputs": outputs}

    monkeypatch.setattr(litert, "run_isolated", wrong)
    refused = contextlib.nullcontext() if kept else pytest.raises(ConversionFailed, match="root mean square")
    with refused, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        tfbig.export(small_model, tmp_path / "m.tflite", quantize="int8", calibration=digits_arrays["x_train"])
    assert bool(os.listdir(tmp_path)) == kept
    assert kept == any(
        re.search("differs from the Keras model by .* Measure its quality", str(w.message)) for w in told
    )


def test_trained_quantization_decides(small_model, fresh_digits, tmp_path):
    prepared = tfbig.Quantize("int8").prepare(small_model)
    with pytest.raises(InvalidModel, match="was prepared with Quantize but saw no data.*Train it for a step or more"):
        tfbig.export(prepared, tmp_path / "q.tflite")
    prepared.compile("adam", "sparse_categorical_crossentropy")
    prepared.fit(fresh_digits().train, epochs=1, verbose=0, shuffle=False)
    with pytest.raises(
        InvalidArgument, match=r"`quantize` is 'int16x8', but the model was trained with Quantize\('int8'\)"
    ):
        tfbig.export(prepared, tmp_path / "q.tflite", quantize="int16x8")
    file = tfbig.export(prepared, tmp_path / "q.tflite")
    assert tfbig.inspect(file).scheme == "int8"
