"""Layer by layer: the errors are those of NumPy, a planted fault is found, and the recipe that comes out runs."""

from __future__ import annotations

import json
import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile
from tfbig.measurement.debug import plain_name
from tfbig.measurement.diagnosis import Trial
from tfbig.measurement.sensitivity import SCHEMES, scheme_of


@pytest.fixture(scope="module")
def digits(digits_arrays):
    return digits_arrays["x_test"][:20]


@pytest.fixture(scope="module")
def lopsided():
    """Weights of `body` that only an unlit pixel meets are so large that 8 bits leave nothing for the others."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="stem")(inputs)
    x = layers.Flatten(name="flatten")(layers.Concatenate(name="join")([inputs, x]))
    x = layers.Dense(16, activation="relu", name="body")(x)
    x = layers.Dense(12, activation="relu", name="neck")(x)
    model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="classifier")(x), name="lopsided")
    kernel = model.get_layer("body").kernel
    kernel.assign(np.concatenate([np.full((1, 16), 60.0), kernel.numpy()[1:] * 3]))
    return model


@pytest.fixture(scope="module")
def lopsided_file(lopsided, digits_arrays, folder):
    calibration = digits_arrays["x_train"][:64]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Output 0 of the LiteRT file differs from the Keras model")
        return tfbig.export(lopsided, folder / "lopsided.tflite", quantize="int8", calibration=calibration)


@pytest.fixture(scope="module")
def lopsided_diagnosis(lopsided, lopsided_file, digits):
    before = [v.numpy() for v in lopsided.variables]
    diagnosis = tfbig.debug(lopsided, lopsided_file, digits)
    for variable, value in zip(lopsided.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    return diagnosis


def test_rows_are_the_layers_in_order(lopsided_diagnosis):
    rows = [(row.layer, row.type) for row in lopsided_diagnosis.layers]
    assert rows == [
        *(("stem", "CONV_2D"), ("join", "CONCATENATION"), ("flatten", "RESHAPE"), ("body", "FULLY_CONNECTED")),
        *(("neck", "FULLY_CONNECTED"), ("classifier", "FULLY_CONNECTED"), ("classifier softmax", "SOFTMAX")),
    ]
    assert (lopsided_diagnosis.scheme, lopsided_diagnosis.samples) == ("int8", 16)


def test_figures_are_those_of_numpy(lopsided, lopsided_file, lopsided_diagnosis, digits):
    rows = np.arange(16) * len(digits) // 16  # as they are taken from arrays, from end to end
    got = np.concatenate([tfbig_run(lopsided_file, digits[i : i + 1]) for i in rows]).astype("float64")
    want = lopsided.predict(digits[rows], verbose=0).astype("float64")
    row = lopsided_diagnosis.layers[-1]
    assert row.snr_db == pytest.approx(10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2)), abs=0.2)
    assert row.cosine == pytest.approx(np.sum(want * got) / np.sqrt(np.sum(want**2) * np.sum(got**2)), abs=1e-4)
    assert row.max_error == pytest.approx(np.max(np.abs(want - got)), abs=1 / 128)
    assert row.max_error_steps == pytest.approx(row.max_error * 256, rel=1e-3)


def tfbig_run(path, image):
    from tfbig.measurement.litert import run_litert

    return run_litert(path, [image])[0]


def test_the_planted_fault_is_found_and_exempting_it_helps(lopsided_diagnosis):
    worst = next(s for s in lopsided_diagnosis.sensitivity if s.can_be_exempt)
    assert worst.layer == "body"
    assert sum(s.share for s in lopsided_diagnosis.sensitivity) == pytest.approx(1)
    assert lopsided_diagnosis.trial.exempt == ("body",)
    assert (
        lopsided_diagnosis.trial.helps and lopsided_diagnosis.trial.snr_db > lopsided_diagnosis.trial.snr_db_before + 6
    )
    assert lopsided_diagnosis.trial.bytes > lopsided_diagnosis.trial.bytes_before
    assert "With body in float the outputs go from" in str(lopsided_diagnosis)


def test_the_recipe_runs(lopsided, lopsided_diagnosis, digits_arrays, tmp_path):
    recipe = tfbig.Recipe.from_yaml(lopsided_diagnosis.recipe.to_yaml())
    assert recipe.stages == ((tfbig.Quantize("int8", exempt=["body"]),),)
    prepared = recipe.stages[0][0].prepare(lopsided)
    prepared.compile("sgd", "sparse_categorical_crossentropy")
    prepared.fit(digits_arrays["x_train"][:64], digits_arrays["y_train"][:64], verbose=0)
    ops = tfbig.inspect(tfbig.export(prepared, tmp_path / "m.tflite")).float_ops
    assert [op.type for op in ops] == ["FULLY_CONNECTED"] and "'body' was named in" in ops[0].reason


def test_a_model_trained_for_integers_agrees_to_a_few_steps(small_model, digits_arrays, tmp_path):
    prepared = tfbig.Quantize("int8").prepare(small_model)
    prepared.compile("sgd", "sparse_categorical_crossentropy")
    prepared.fit(digits_arrays["x_train"][:64], digits_arrays["y_train"][:64], verbose=0)
    file = tfbig.export(prepared, tmp_path / "m.tflite")
    diagnosis = tfbig.debug(prepared, file, (digits_arrays["x_test"], digits_arrays["y_test"]))
    assert [row.layer for row in diagnosis.layers][:3] == ["stem", "body", "add"]
    assert all(row.max_error_steps <= 3 for row in diagnosis.layers)


def test_files_of_the_stock_converter(cnn, int8_file, float_file, images):
    diagnosis = tfbig.debug(cnn, int8_file, images, sensitivity=False)
    names = [row.layer for row in diagnosis.layers]
    assert len(names) == 5 and names[0] == cnn.layers[1].name and names[-1].endswith("softmax")
    assert all(15 < row.snr_db < 80 and row.max_error_steps > 0 for row in diagnosis.layers)
    same = tfbig.debug(cnn, float_file, images)
    assert all(row.snr_db is None or row.snr_db > 100 for row in same.layers)
    assert same.recipe is None and "quantize='int8' ranks the layers" in same.notes[0]


def test_a_float_file_can_be_ranked_for_any_scheme(cnn, float_file, images):
    for scheme in ("int16x8", "dynamic", "weight_only_int4"):
        diagnosis = tfbig.debug(cnn, float_file, images, quantize=scheme, samples=4)
        assert any(s.share > 0 for s in diagnosis.sensitivity)
        assert (diagnosis.recipe is None) == (scheme != "int16x8")
        assert diagnosis.trial.snr_db_before is not None


def test_several_inputs_outputs_and_indices(tmp_path):
    keras.utils.set_random_seed(0)
    words, numbers = keras.Input((6,), dtype="int32", name="words"), keras.Input((4,), name="numbers")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(50, 8, name="table")(words))
    x = layers.Dense(8, activation="relu", name="mix")(layers.Concatenate()([x, numbers]))
    model = keras.Model([words, numbers], [layers.Dense(2, name="two")(x), layers.Dense(3, name="three")(x)])
    rng = np.random.default_rng(0)
    data = [rng.integers(0, 50, (20, 6)).astype("int32"), rng.normal(size=(20, 4)).astype("float32")]
    file = tfbig.export(model, tmp_path / "m.tflite", quantize="int8", calibration=[data])
    diagnosis = tfbig.debug(model, file, [data], samples=4)
    assert {"mix", "two", "three"} <= {row.layer for row in diagnosis.layers}
    assert "random numbers" in tfbig.debug(model, file, samples=2, sensitivity=False).notes[0]


def test_a_model_that_cannot_be_traced_is_compared_with_its_float_file(cnn, int8_file, images, monkeypatch):
    from tfbig.compression.native.tracing import Untraceable
    from tfbig.measurement import debug as module

    def refuse(model):
        raise Untraceable("It branches.")

    monkeypatch.setattr(module, "KerasTensors", refuse)
    diagnosis = tfbig.debug(cnn, int8_file, images, samples=4)
    assert len(diagnosis.layers) == 5 and all(row.snr_db > 15 for row in diagnosis.layers)
    assert (
        "cannot be seen layer by layer, so its float file stands for it, tensor by tensor: It branches."
        in diagnosis.notes[0]
    )
    assert diagnosis.recipe is None and len(diagnosis.sensitivity) >= 5


def test_json_and_text(lopsided_diagnosis):
    values = json.loads(json.dumps(lopsided_diagnosis.to_dict()))
    assert values["recipe"]["stages"] == [[{"name": "quantize", "exempt": ["body"]}]]
    assert len(values["layers"]) == 7
    text = str(lopsided_diagnosis)
    assert "SNR dB" in text and "tfbig.Quantize('int8', exempt=['body'])" in text


def test_a_file_of_another_model_is_named(small_model, two_headed_file, digits):
    with pytest.raises((InvalidFile, InvalidData), match="no tensor in common|has 2 inputs"):
        tfbig.debug(small_model, two_headed_file, digits)


def test_arguments(small_model, lopsided_file, digits):
    with pytest.raises(InvalidArgument, match="Unknown value of `quantize` 'int9'. Known: .*Did you mean 'int8'?"):
        tfbig.debug(small_model, lopsided_file, digits, quantize="int9")
    with pytest.raises(InvalidArgument, match="`samples` must be a whole number of at least 1, received 0"):
        tfbig.debug(small_model, lopsided_file, digits, samples=0)
    with pytest.raises(InvalidData, match=r"must give inputs of shape \[\(8, 8, 1\)\]"):
        tfbig.debug(small_model, lopsided_file, np.zeros((4, 9, 9, 1), "float32"))
    with pytest.raises(InvalidFile, match="No file `.*gone.tflite`"):
        tfbig.debug(small_model, "gone.tflite", digits)


def test_schemes_are_those_that_inspect_names():
    said = {
        "int8": "int8", "int8 (int4 weights)": "int4", "int16x8": "int16x8", "float32": None, "float16 weights": None,
        "dynamic range (int8 weights)": "dynamic", "weight-only (int4 weights)": "weight_only_int4",
        "weight-only (int8 weights)": "weight_only_int8",
    }  # fmt: skip
    assert {name: scheme_of(name) for name in said} == said
    assert {name for name in said.values() if name} == set(SCHEMES)


def test_names_without_what_converters_add():
    assert plain_name("net_1/stem_1/Conv;net_1/stem_1/BiasAdd1") == plain_name("net/stem/Conv;net/stem/BiasAdd")
    assert plain_name("x:0_quantized") == plain_name("x:0_dequant") == "x:"


@pytest.mark.parametrize(
    ("before", "after", "helps", "hurts"),
    [(20.0, 22.0, True, False), (20.0, 20.4, False, False), (20.0, 19.0, False, True), (20.0, None, True, False)],
)
def test_a_recipe_is_offered_only_where_something_is_won(before, after, helps, hurts):
    trial = Trial(("layer",), after, before, 10, 9)
    assert (trial.helps, trial.hurts) == (helps, hurts)


def test_tensors_whose_names_were_numbered_anew_are_found(tmp_path):
    """Attention has several tensors of one name, which the float and the quantized file number in another order."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).normal(size=(16, 8, 16)).astype("float32")
    inputs = keras.Input((8, 16))
    y = layers.MultiHeadAttention(2, 8, name="attention")(layers.LayerNormalization(name="norm")(inputs), inputs)
    model = keras.Model(inputs, layers.Dense(4)(y))
    file = tfbig.export(model, tmp_path / "m.tflite", quantize="int16x8", calibration=x)
    diagnosis = tfbig.debug(model, file, x, samples=4, sensitivity=False)
    assert len(diagnosis.layers) > 8 and min(row.snr_db or 99 for row in diagnosis.layers) > 30
