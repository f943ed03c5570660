"""Quantization after training: ranges, repairs, mixed schemes, against NumPy and on a net that needs them."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig import PostTraining
from tfbig.errors import InvalidArgument
from tfbig.exporters.calibrations import kl, minmax, mse, percentile
from tfbig.exporters.litert_layers import FloatFile
from tfbig.exporters.post_training import calibrations, repairs
from tfbig.exporters.repairs import bias_correction, equalization, reestimation, rounding
from tfbig.exporters.repairs.rounding import _descend
from tfbig.measurement.litert import run_litert


@pytest.fixture(scope="module")
def depthwise(digits_arrays):
    """Depthwise separable layers whose channels differ a hundredfold, which one scale for all of them serves badly."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    x = inputs
    for filters, strides in ((16, 1), (24, 2)):
        x = layers.Conv2D(filters, 1, activation="relu")(x)
        x = layers.DepthwiseConv2D(3, strides=strides, padding="same", activation="relu")(x)
    x = layers.Flatten()(layers.Conv2D(16, 1, activation="relu6")(x))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="classifier")(x))
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(digits_arrays["x_train"], digits_arrays["y_train"], epochs=12, verbose=0, shuffle=False)
    sizes = np.geomspace(0.1, 10, 16).astype("float32")
    first, second = model.layers[1], model.layers[2]
    first.set_weights([w * sizes for w in first.get_weights()])
    kernel, bias = second.get_weights()
    second.set_weights([kernel / sizes[:, None], bias])
    return model


@pytest.fixture(scope="module")
def samples(digits_arrays):
    return [{"image": digits_arrays["x_train"][i : i + 1]} for i in range(32)]


@pytest.fixture(scope="module")
def float_file(depthwise, tmp_path_factory):
    return tfbig.export(depthwise, tmp_path_factory.mktemp("float") / "m.tflite")


def noise(path, model, x):
    want = model.predict(x, verbose=0)
    return float(np.sum((run_litert(path, [x])[0] - want) ** 2) / np.sum(want**2))


def export(model, folder, digits_arrays, quantize):
    path = folder / f"{len(list(folder.iterdir()))}.tflite"
    return tfbig.export(model, path, quantize=quantize, calibration=digits_arrays["x_train"][:128])


def test_repairs_help_a_depthwise_net(depthwise, digits_arrays, tmp_path):
    data = (digits_arrays["x_test"], digits_arrays["y_test"])
    plain = export(depthwise, tmp_path, digits_arrays, "int8")
    repaired = export(
        depthwise, tmp_path, digits_arrays, PostTraining(repairs=("equalization", "rounding", "bias_correction"))
    )
    before, after = (noise(path, depthwise, data[0]) for path in (plain, repaired))
    assert after < 0.7 * before
    assert repaired.stat().st_size <= 1.02 * plain.stat().st_size
    assert tfbig.measure(repaired, data, latency=False).quality >= tfbig.measure(plain, data, latency=False).quality


@pytest.mark.parametrize("name", repairs.names())
def test_each_repair_helps_where_bits_are_few(name, depthwise, digits_arrays, tmp_path):
    plain = export(depthwise, tmp_path, digits_arrays, "int4")
    repaired = export(depthwise, tmp_path, digits_arrays, PostTraining("int4", repairs=[name]))
    x = digits_arrays["x_test"]
    assert noise(repaired, depthwise, x) < noise(plain, depthwise, x)


@pytest.mark.parametrize("name", calibrations.names())
def test_each_calibration_makes_a_good_file(name, depthwise, digits_arrays, tmp_path):
    path = export(depthwise, tmp_path, digits_arrays, PostTraining(calibrate=name))
    assert noise(path, depthwise, digits_arrays["x_test"]) < 0.05


def test_equalization_leaves_the_network_as_it_is(float_file, depthwise, samples, digits_arrays, tmp_path):
    file = FloatFile(float_file.read_bytes())
    before = [layer.weights.copy() for layer in file.layers]
    assert [layer.kind for layer in file.layers] == [
        *("CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "FULLY_CONNECTED"),
    ]
    equalization.repair(file, samples, 8)
    (tmp_path / "m.tflite").write_bytes(file.pack())
    x = digits_arrays["x_test"][:32]
    np.testing.assert_allclose(run_litert(tmp_path / "m.tflite", [x])[0], depthwise.predict(x, verbose=0), atol=1e-4)
    assert all(np.any(layer.weights != old) for layer, old in zip(file.layers[:4], before, strict=False))


def test_equalized_channels_are_more_alike(float_file, samples):
    def spread(file):
        largest = np.max([np.max(v[file.layers[0].result], axis=(0, 1, 2)) for v in file.values(samples)], axis=0)
        return np.std(np.log(largest[largest > 1e-4]))

    file = FloatFile(float_file.read_bytes())
    before = spread(file)
    equalization.repair(file, samples, 8)
    assert spread(file) < 0.7 * before


def test_bias_correction_restores_the_mean(float_file, samples):
    def mean_output(file):
        return np.mean([np.mean(v[file.layers[2].result], axis=(0, 1, 2)) for v in file.values(samples)], axis=0)

    plain, corrected = FloatFile(float_file.read_bytes()), FloatFile(float_file.read_bytes())
    want = mean_output(plain)
    bias_correction.repair(corrected, samples, 4)
    corrected.layers[2].bias = corrected.layers[2].chosen_bias  # Of this layer alone: what comes before stays exact.
    for file in (plain, corrected):
        file.layers[2].weights = file.layers[2].rounded(4)
    assert np.sum((mean_output(corrected) - want) ** 2) < 0.5 * np.sum((mean_output(plain) - want) ** 2)


def test_rounding_finds_most_of_what_there_is_to_win():
    random = np.random.default_rng(0)
    exact = random.uniform(-3, 3, (60, 8))
    inputs = random.normal(size=(50, 8)) @ random.normal(size=(8, 8))
    moments = inputs.T @ inputs / 50

    def costs(choice):
        return np.einsum("...i,ij,...j->...", choice - exact, moments, choice - exact)

    levels = _descend(exact, moments[None], 7)
    assert np.all((levels == np.floor(exact)) | (levels == np.ceil(exact)))
    nearest, chosen = costs(np.round(exact)), costs(levels)
    best = np.min([costs(np.floor(exact) + np.array(up)) for up in itertools.product((0, 1), repeat=8)], axis=0)
    assert np.all(chosen <= nearest + 1e-9) and np.all(chosen >= best - 1e-9)
    assert np.mean(chosen - best) < 0.4 * np.mean(nearest - best)


def test_rounded_weights_stay_on_their_grid(float_file, samples):
    file = FloatFile(float_file.read_bytes())
    rounding.repair(file, samples, 4)
    stored = FloatFile(file.pack()).layers
    for layer, again in zip(file.layers, stored, strict=True):
        np.testing.assert_allclose(again.rounded(4), layer.chosen_weights, rtol=1e-5, atol=1e-7)
        assert np.all(again.scale(4) <= layer.scale(4) * (1 + 1e-6))
        clipped = np.clip(layer.weights, *(sign * 7 * again.scale(4) for sign in (-1, 1)))
        if layer.kind != "DEPTHWISE_CONV_2D":
            assert np.max(np.abs(again.weights - clipped) / again.scale(4)) < 1 + 1e-5


def pre_activations(file, index, samples, *, exact):
    """Mean and spread of what a 1x1 convolution gives before its activation, by NumPy."""
    layer = file.layers[index]
    weights, bias = layer.constants(exact=exact)
    made = np.concatenate(
        [values[layer.source].reshape(-1, weights.shape[-1]) for values in file.values(samples, exact=exact)]
    )
    made = made @ weights.reshape(len(weights), -1).T + bias
    return made.mean(0), made.std(0)


def test_reestimation_restores_mean_and_spread(float_file, samples):
    file = FloatFile(float_file.read_bytes())
    for layer in file.layers:
        layer.chosen_weights = layer.rounded(4)
    rounded = pre_activations(file, 2, samples, exact=False)
    file = FloatFile(float_file.read_bytes())
    reestimation.repair(file, samples, 4)
    wanted, repaired = (pre_activations(file, 2, samples, exact=exact) for exact in (True, False))
    for want, without, found in zip(wanted, rounded, repaired, strict=True):
        assert np.sum((found - want) ** 2) < 0.05 * np.sum((without - want) ** 2)


def test_reestimation_leaves_the_integers_as_they_are(float_file, samples):
    file = FloatFile(float_file.read_bytes())
    before = [np.round(layer.weights / layer.scale(4)) for layer in file.layers]
    reestimation.repair(file, samples, 4)
    for layer, levels in zip(FloatFile(file.pack()).layers, before, strict=True):
        np.testing.assert_array_equal(np.round(layer.weights / layer.scale(4)), levels)


def test_a_layer_with_a_scheme_of_its_own_is_not_repaired(small_model, digits_arrays, tmp_path):
    schemes = {"classifier": "float"}
    plain, repaired = (
        export(small_model, tmp_path, digits_arrays, PostTraining("int4", repairs=names, schemes=schemes))
        for names in ((), "all")
    )
    kernels = [next(op for op in tfbig.inspect(path).ops if op.type == "FULLY_CONNECTED") for path in (plain, repaired)]
    assert [op.arithmetic for op in kernels] == ["float", "float"]
    want = small_model.get_layer("classifier").kernel.numpy().T.astype("<f4").tobytes()
    assert want in plain.read_bytes() and want in repaired.read_bytes()


def test_all_repairs_are_no_worse_than_the_best_one(depthwise, digits_arrays, tmp_path):
    x = digits_arrays["x_test"]

    def noise_with(names):
        return noise(export(depthwise, tmp_path, digits_arrays, PostTraining("int4", repairs=names)), depthwise, x)

    assert noise_with("all") <= 1.1 * min(noise_with([name]) for name in repairs.names())


def test_repairs_take_their_turns_whatever_the_order_of_their_names(depthwise, digits_arrays, tmp_path):
    first, second = (
        export(depthwise, tmp_path, digits_arrays, PostTraining("int4", repairs=names))
        for names in (["equalization", "rounding"], ["rounding", "equalization"])
    )
    assert first.read_bytes() == second.read_bytes()


def histogram(values):
    return np.histogram(values, 2048, (min(0.0, values.min()), values.max()))


def test_ranges_of_a_distribution_with_an_outlier():
    random = np.random.default_rng(0)
    values = np.concatenate([np.maximum(random.normal(size=100_000), 0), [60.0]])
    counts, edges = histogram(values)
    assert minmax.range_of(counts, edges, 256) == (0.0, 60.0)
    for module in (percentile, kl):
        low, high = module.range_of(counts, edges, 256)
        assert low == 0.0 and 2 < high < 20, module.__name__


def test_mse_is_the_best_of_its_grid():
    values = np.random.default_rng(1).laplace(size=20_000)
    counts, edges = histogram(values)

    def error(low, high):
        step = (high - low) / 15
        return np.mean((np.clip(np.round((values - low) / step) * step + low, low, high) - values) ** 2)

    low, high = mse.range_of(counts, edges, 16)
    assert error(low, high) < 0.6 * error(edges[0], edges[-1])
    assert all(error(low, high) <= 1.05 * error(low, high * f) for f in (0.8, 0.9, 1.1, 1.25))


def test_percentile_cuts_a_share():
    values = np.random.default_rng(2).uniform(-1, 3, 100_000)
    low, high = percentile.range_of(*histogram(values), 256)
    assert np.mean(values > high) == pytest.approx(1e-4, rel=0.6)
    assert np.mean(values < low) == pytest.approx(1e-4, rel=0.6)


def test_schemes_by_layer(small_model, digits_arrays, tmp_path):
    def arithmetic(schemes):
        path = export(small_model, tmp_path, digits_arrays, PostTraining(schemes=schemes))
        return {op.type: op for op in tfbig.inspect(path).ops if op.weights}, path

    ops, _ = arithmetic({"class*": "float"})
    assert ops["CONV_2D"].arithmetic == "integer" and ops["FULLY_CONNECTED"].arithmetic == "float"
    assert ops["FULLY_CONNECTED"].reason == "its layer was named to stay float"
    ops, path = arithmetic({"*": "dynamic", "stem": "int8", "body": "int8"})
    assert ops["CONV_2D"].arithmetic == "integer" and ops["FULLY_CONNECTED"].arithmetic == "hybrid"
    ops, _ = arithmetic({"classifier": "int4"})
    assert ops["FULLY_CONNECTED"].weight_bits == 4 and ops["CONV_2D"].weight_bits == 8
    assert noise(path, small_model, digits_arrays["x_test"]) < 0.05


def test_a_pattern_that_matches_nothing(small_model, digits_arrays, tmp_path):
    with pytest.raises(InvalidArgument, match=r"`schemes` has the pattern 'stm', which matches no .* mean 'stem'\?"):
        export(small_model, tmp_path, digits_arrays, PostTraining(schemes={"stm": "float"}))


def test_integers_in_and_out(small_model, digits_arrays, tmp_path):
    path = export(small_model, tmp_path, digits_arrays, PostTraining(integer_io=True))
    ops = tfbig.inspect(path).ops
    assert not {"QUANTIZE", "DEQUANTIZE"} & {op.type for op in ops}
    assert noise(path, small_model, digits_arrays["x_test"]) < 0.05


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dtype": "int9"}, "Unknown dtype of PostTraining 'int9'. Known: .*Did you mean 'int8'?"),
        ({"calibrate": "mean"}, "Unknown calibration 'mean'. Known: kl, minmax, mse, percentile."),
        ({"repairs": ["equalisation"]}, "Unknown repair 'equalisation'. Known: .*Did you mean 'equalization'?"),
        ({"repairs": ["rounding", "rounding"]}, "`repairs` must name each repair once, received rounding, rounding."),
        ({"schemes": {"stem": "int3"}}, "Unknown scheme in `schemes` 'int3'"),
    ],
)
def test_bad_options(options, text):
    with pytest.raises(InvalidArgument, match=text):
        PostTraining(**options)


def test_a_model_trained_for_integers_needs_no_repair(small_model, digits_arrays, tmp_path):
    prepared = tfbig.Quantize("int8").prepare(small_model)
    prepared.compile("sgd", "sparse_categorical_crossentropy")
    prepared.fit(digits_arrays["x_train"][:32], digits_arrays["y_train"][:32], verbose=0)
    with pytest.raises(
        InvalidArgument,
        match="a PostTraining, which chooses ranges of activations, but .small. was trained for integers",
    ):
        tfbig.export(prepared, tmp_path / "m.tflite", quantize=PostTraining(), calibration=digits_arrays["x_train"])


def test_a_constant_joined_to_an_activation_takes_its_scale(tmp_path):
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("vit", input_shape=(8, 8, 1), patch=4, width=16, depth=1, heads=2, mlp=16)
    x = np.random.default_rng(0).random((64, 8, 8, 1), np.float32)
    path = tfbig.export(model, tmp_path / "vit.tflite", quantize="int8", calibration=x)
    assert {op.arithmetic for op in tfbig.inspect(path).ops if op.type == "CONCATENATION"} == {"integer"}
    assert noise(path, model, x) < 0.01
