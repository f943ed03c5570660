"""`measure` on every kind of subject against what Keras says itself, and its errors."""

import dataclasses
import gzip
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile
from tfbig.measurement.measure import measure


@pytest.fixture(scope="module")
def labelled(cnn, images):
    """Labels that the model gets right nine times in ten."""
    labels = np.asarray(cnn(images)).argmax(1)
    wrong = np.arange(len(labels)) % 10 == 0
    return images, np.where(wrong, (labels + 1) % 10, labels)


def test_a_litert_file_is_measured_from_its_bytes(cnn, float_file, labelled):
    result = measure(float_file, labelled, threads=2, runs=10)
    kernels = np.concatenate([np.ravel(w) for w in cnn.get_weights() if w.ndim > 1])
    assert (result.quality, result.quality_name, result.samples) == (pytest.approx(0.9), "accuracy", 70)
    assert result.bytes == float_file.stat().st_size
    assert result.gzip_bytes == len(gzip.compress(float_file.read_bytes(), 9))
    assert result.zero_fraction == pytest.approx(np.mean(kernels == 0), abs=1e-9)
    assert 0 < result.latency_ms <= result.latency_p95_ms and result.threads == 2
    assert json.loads(json.dumps(dataclasses.asdict(result)))["file"] == str(float_file)


def test_model_file_folder_and_object_agree(cnn, labelled, tmp_path):
    cnn.save(tmp_path / "model.keras")
    cnn.export(tmp_path / "saved", verbose=False)
    whole = measure(cnn, labelled)
    for path in (tmp_path / "model.keras", tmp_path / "saved"):
        result = measure(path, labelled)
        figures = ("quality", "quality_name", "samples", "parameters", "zero_fraction", "distinct_weights")
        assert [getattr(result, f) for f in figures] == [getattr(whole, f) for f in figures]
        assert result.bytes > 0 and result.gzip_bytes > 0 and result.latency_ms is None
    assert whole.parameters == cnn.count_params() and whole.file is None and whole.bytes is None
    assert whole.zero_fraction == pytest.approx(0.6, abs=0.01)


def test_measuring_changes_nothing(cnn, labelled):
    weights = [w.copy() for w in cnn.get_weights()]
    measure(cnn, labelled)
    assert not cnn.compiled
    for before, after in zip(weights, cnn.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_a_dataset_and_arrays_give_the_same(int8_file, labelled):
    dataset = tf.data.Dataset.from_tensor_slices(labelled).batch(32)
    by_dataset, by_arrays = measure(int8_file, dataset, runs=1), measure(int8_file, labelled, runs=1)
    assert by_dataset.quality == by_arrays.quality > 0.7 and by_dataset.samples == 70


def test_without_data_there_is_no_quality(int8_file):
    result = measure(int8_file, latency=False)
    assert result.quality is None and result.samples == 0 and result.latency_ms is None
    assert result.zero_fraction == pytest.approx(0.6, abs=0.01)


def test_tf_keras_models_are_measured(recurrent_file):
    path, model = recurrent_file
    x = np.random.default_rng(0).random((5, 6, 3), np.float32)
    y = np.concatenate([np.asarray(model(sample[None])) for sample in x]) + 0.25
    assert measure(path, (x, y)).quality == pytest.approx(0.25, abs=1e-5)
    import tf_keras

    free = tf_keras.Sequential([tf_keras.Input((6, 3)), *model.layers])
    result = measure(free, (x, y), metric="rmse")
    assert (result.quality, result.quality_name) == (pytest.approx(0.25, abs=1e-5), "rmse")
    assert result.parameters == model.count_params()


def test_several_outputs_are_averaged_and_matched_by_name(two_headed, two_headed_file, tmp_path):
    x = {"second": np.ones((6, 4), np.float32), "first": np.ones((6, 3), np.float32)}
    z, a = (np.asarray(o) for o in two_headed([x["second"], x["first"]]))
    pair = (z + 1, a + 3)
    assert measure(two_headed, ([x["second"], x["first"]], pair)).quality == pytest.approx(2)
    assert measure(two_headed, (x, {"a": a + 3, "z": z + 1})).quality == pytest.approx(2)
    for data in ((x, pair), ([x["second"], x["first"]], pair)):
        assert measure(two_headed_file, data, latency=False).quality == pytest.approx(2)
    two_headed.export(tmp_path / "saved", verbose=False)
    assert measure(tmp_path / "saved", ([x["second"], x["first"]], pair)).quality == pytest.approx(2)
    with pytest.raises(InvalidData, match="labels are named a, z, the outputs output_0, output_1"):
        measure(two_headed_file, (x, {"a": a, "z": z}))
    named = tfbig.export(two_headed, tmp_path / "named.tflite")  # says in its metadata how the outputs are called
    for model in (two_headed, named):
        labels = {"a": a + 3, "z": z + 1}
        assert measure(model, (x, labels), latency=False).quality == pytest.approx(2)
        assert measure(model, (x, labels), latency=False, metric={"a": "mse"}).quality == pytest.approx(9)
        with pytest.raises(InvalidArgument, match="Unknown output in `metric`: 'b'. Known: a, z."):
            measure(model, (x, labels), metric={"b": "mae"})
    with pytest.raises(InvalidData, match="labels are named a, y, the outputs z, a"):
        measure(named, (x, {"a": a, "y": z}))
    with pytest.raises(InvalidData, match=r"different metrics \(accuracy, mae\).*counts: metric=\{'a': 'mae'\}"):
        measure(named, (x, {"a": a + 0.5, "z": np.zeros(6, int)}))
    with pytest.raises(InvalidData, match="model has 2 outputs, the data has labels for 1"):
        measure(two_headed_file, (x, a))


def test_a_subclassed_model_is_measured(labelled):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(10)

        def call(self, x):
            return self.dense(keras.ops.reshape(x, (-1, 64)))

    net = Net()
    expected = np.mean(np.asarray(net(labelled[0])).argmax(1) == labelled[1])
    assert measure(net, labelled).quality == pytest.approx(expected)


def test_data_that_does_not_fit_is_refused_by_every_subject(cnn, float_file, tmp_path):
    data = np.zeros((4, 28, 28, 1), np.float32), np.zeros(4, int)
    cnn.export(tmp_path / "saved", verbose=False)
    for subject in (cnn, float_file, tmp_path / "saved"):
        message = r"(?s)does not fit.*takes samples of shape \(8, 8, 1\), received \(28, 28, 1\)"
        with pytest.raises(InvalidData, match=message):
            measure(subject, data)


def test_arguments_are_checked_before_any_work(float_file, labelled):
    with pytest.raises(InvalidArgument, match="Unknown metric 'accurancy'.*Did you mean 'accuracy'"):
        measure("not there.tflite", labelled, metric="accurancy")
    with pytest.raises(InvalidArgument, match="`runs` must be a whole number of at least 1, received 0"):
        measure(float_file, runs=0)
    with pytest.raises(InvalidArgument, match="must be a path or a Keras model, received int"):
        measure(3)


def test_files_that_cannot_be_measured(tmp_path, labelled):
    with pytest.raises(
        InvalidFile, match="Expected a .*.keras, .onnx, .tflite file or a SavedModel folder; `.*gone` is not there"
    ):
        measure(tmp_path / "gone", labelled)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InvalidFile, match="notes.txt` is none of them"):
        measure(tmp_path / "notes.txt", labelled)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no protobuf")
    with pytest.raises(InvalidFile, match="broken` is not a readable SavedModel"):
        measure(tmp_path / "broken", labelled)


def test_it_is_the_public_name():
    assert tfbig.measure is measure
