"""Running and timing LiteRT files against Keras and against the interpreter itself."""

import keras
import numpy as np
import pytest

import tfbig
from tfbig.errors import ConversionFailed, InvalidArgument, InvalidData
from tfbig.measurement import litert
from tfbig.measurement.compare import compare
from tfbig.measurement.litert import run_litert, time_litert


def test_float_file_gives_keras_outputs(cnn, float_file, images):
    (outputs,) = run_litert(float_file, [images])
    np.testing.assert_allclose(outputs, np.asarray(cnn(images)), atol=1e-5)


def test_int8_file_takes_and_gives_real_numbers(cnn, int8_file, images):
    (outputs,) = run_litert(int8_file, [images])
    assert outputs.dtype == np.float32
    np.testing.assert_allclose(outputs, np.asarray(cnn(images)), atol=0.05)
    steps = outputs * 256
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)


def test_sparse_and_int4_files_run(cnn, sparse_file, int4_file, images):
    expected = np.asarray(cnn(images))
    np.testing.assert_allclose(run_litert(sparse_file, [images])[0], expected, atol=1e-5)
    np.testing.assert_allclose(run_litert(int4_file, [images])[0], expected, atol=0.1)


def test_samples_do_not_see_each_other(int8_file, float_file, images):
    for file in (int8_file, float_file):
        together = run_litert(file, [images])[0]
        alone = np.concatenate([run_litert(file, [image[None]])[0] for image in images[:5]])
        np.testing.assert_allclose(together[:5], alone, atol=1e-6)


def test_recurrent_state_is_cleared_between_samples(recurrent_file):
    path, model = recurrent_file
    sequences = np.random.default_rng(1).random((5, 6, 3), np.float32)
    expected = np.concatenate([np.asarray(model(s[None])) for s in sequences])
    np.testing.assert_allclose(run_litert(path, [sequences])[0], expected, atol=1e-6)


def test_a_graph_that_mixes_the_samples_runs_one_by_one(folder, convert):
    inputs = keras.Input((4,))
    mixed = keras.ops.softmax(keras.ops.reshape(keras.layers.Dense(3)(inputs), (1, -1)))
    model = keras.Model(inputs, keras.ops.reshape(mixed, (-1, 3)))
    path = folder / "mixing.tflite"
    path.write_bytes(convert(model))
    x = np.random.default_rng(2).random((6, 4), np.float32)
    expected = np.concatenate([np.asarray(model(sample[None])) for sample in x])
    np.testing.assert_allclose(run_litert(path, [x])[0], expected, atol=1e-5)
    assert np.abs(expected - np.asarray(model(x))).max() > 0.1


def test_several_inputs_by_order_and_by_name(two_headed, two_headed_file):
    second, first = np.ones((3, 4), np.float32), np.full((3, 3), 2.0, np.float32)
    expected = [np.asarray(output) for output in two_headed([second, first])]
    by_order = run_litert(two_headed_file, [second, first])
    by_name = run_litert(two_headed_file, {"first": first, "second": second})
    for received in (by_order, by_name):
        for output, wanted in zip(received, expected, strict=True):
            np.testing.assert_allclose(output, wanted, atol=1e-6)


def test_a_list_is_in_the_order_of_the_model(folder, convert):
    inputs = [keras.Input((4,), name=name) for name in ("zeta", "alpha", "mid")]
    units = [
        keras.layers.Dense(3, kernel_initializer=keras.initializers.RandomNormal(seed=i))(x)
        for i, x in enumerate(inputs)
    ]
    model = keras.Model(inputs, units[0] + 2 * units[1] - units[2])
    x = [np.random.default_rng(i).random((5, 4), np.float32) for i in range(3)]
    expected = np.asarray(model(x))
    ours = tfbig.export(model, folder / "ours.tflite")
    by_name = dict(zip(("zeta", "alpha", "mid"), x, strict=True))
    np.testing.assert_allclose(run_litert(ours, x)[0], expected, atol=1e-5)
    np.testing.assert_allclose(run_litert(ours, by_name)[0], expected, atol=1e-5)
    assert tfbig.measure(ours, (x, expected), latency=False).quality < 1e-5
    foreign = folder / "foreign.tflite"
    foreign.write_bytes(convert(model))
    np.testing.assert_allclose(run_litert(foreign, by_name)[0], expected, atol=1e-5)
    with pytest.raises(InvalidData, match=r"does not say in which order .* Give a dictionary: {'"):
        run_litert(foreign, x)


def test_inputs_that_do_not_fit_are_named(two_headed_file, float_file, images):
    four = np.ones((3, 4))
    with pytest.raises(InvalidData, match=r"has 2 inputs \(second, first\), received 1"):
        run_litert(two_headed_file, [four])
    with pytest.raises(InvalidData, match=r"inputs second, first, received third, second: first is missing"):
        run_litert(two_headed_file, {"third": four, "second": four})
    with pytest.raises(InvalidData, match=r"input 'first' takes samples of shape \(3,\), received \(4,\)"):
        run_litert(two_headed_file, [four, four])
    with pytest.raises(InvalidData, match=r"as many samples, received \[2, 3\]"):
        run_litert(two_headed_file, [np.ones((3, 4)), np.ones((2, 3))])
    with pytest.raises(InvalidData, match="expected at least 1, received 0"):
        run_litert(float_file, [images[:0]])


def test_a_quantized_input_refuses_nan(int8_file, images):
    with pytest.raises(InvalidData, match="takes finite numbers, received NaN or infinity"):
        run_litert(int8_file, [images * np.nan])


def test_integer_inputs_take_whole_numbers_only(folder, convert):
    inputs = keras.Input((3,), dtype="int32", name="ids")
    model = keras.Model(inputs, keras.layers.Embedding(7, 2)(inputs))
    path = folder / "embedding.tflite"
    path.write_bytes(convert(model))
    ids = np.array([[0, 1, 6]])
    np.testing.assert_allclose(run_litert(path, [ids])[0], np.asarray(model(ids)), atol=1e-6)
    with pytest.raises(InvalidData, match=r"takes int32, received float64 values that do not fit \(from 0.5 to"):
        run_litert(path, [ids + 0.5])


def test_latency_is_of_the_runs_asked_for(int8_file, images):
    latency = time_litert(int8_file, [images], threads=2, runs=20)
    assert (latency.threads, latency.runs) == (2, 20)
    assert 0 < latency.median_ms <= latency.p95_ms < 1000
    for option in ("threads", "runs"):
        with pytest.raises(InvalidArgument, match=f"`{option}` must be a whole number of at least 1, received 0"):
            time_litert(int8_file, **{option: 0})


def test_paired_comparison_finds_the_slower_file(folder, convert, float_file):
    inputs = keras.Input((64, 64, 3))
    slow = folder / "slow.tflite"
    slow.write_bytes(convert(keras.Model(inputs, keras.layers.Conv2D(32, 5)(inputs))))
    result = compare(slow, float_file, rounds=10)
    assert result.speedup > 3 and result.speedup_low <= result.speedup <= result.speedup_high
    assert result.latency_a_ms > result.latency_b_ms
    assert "x as fast (90 % of 10 rounds" in str(result)
    itself = compare(slow, slow, rounds=10)
    assert 0.5 < itself.speedup < 2.0


def test_a_file_that_kills_the_child_is_an_error(monkeypatch, float_file, images):
    calls = []

    def dying(target, *args, **options):
        calls.append(target)
        return litert_run_isolated("os:abort", worker="interpret")

    litert_run_isolated = litert.run_isolated
    monkeypatch.setattr(litert, "run_isolated", dying)
    with pytest.raises(ConversionFailed, match="(?s)LiteRT crashed on .*float.tflite`.*SIGABRT.*Export it again"):
        run_litert(float_file, [images])
    assert len(calls) == 2
    monkeypatch.undo()
    assert len(run_litert(float_file, [images])[0]) == len(images)


def test_a_child_that_an_earlier_file_broke_is_replaced(monkeypatch, float_file, images):
    real, calls = litert.run_isolated, []

    def dying_once(target, *args, **options):
        calls.append(target)
        return real("os:abort", worker="interpret") if len(calls) == 1 else real(target, *args, **options)

    monkeypatch.setattr(litert, "run_isolated", dying_once)
    assert len(run_litert(float_file, [images])[0]) == len(images)


def test_a_file_that_the_runtime_refuses_says_what_to_do(folder):
    path = folder / "flex.tflite"
    path.write_bytes(flex_model())
    with pytest.raises(ConversionFailed, match=r"could not load .*flex.tflite.*TensorFlow \(flex\) ops"):
        run_litert(path, [np.ones((4, 4), np.float32)])


def flex_model() -> bytes:
    import tensorflow as tf

    function = tf.function(lambda x: tf.raw_ops.MatrixInverse(input=x))
    concrete = function.get_concrete_function(tf.TensorSpec((4, 4)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    return converter.convert()
