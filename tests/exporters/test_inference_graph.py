"""The graph in a folder that converters read."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfbig
from tfbig.errors import InvalidModel
from tfbig.exporters.inference_graph import input_specs, save_inference_graph


def wide() -> keras.Model:
    inputs = keras.Input((300,), name="features")
    return keras.Model(inputs, [keras.layers.Dense(300, name=f"head{i}")(inputs) for i in range(12)])


def test_weights_lie_beside_the_graph(tmp_path):
    """As constants in the graph they cost many times their size in memory."""
    model = wide()
    save_inference_graph(model, tmp_path)
    weights = 4 * model.count_params()
    assert (tmp_path / "saved_model.pb").stat().st_size < weights / 10
    assert sum(file.stat().st_size for file in (tmp_path / "variables").iterdir()) >= weights


def test_more_than_ten_outputs_keep_their_numbers(tmp_path):
    model = wide()
    save_inference_graph(model, tmp_path)
    loaded = tf.saved_model.load(str(tmp_path))
    x = np.ones((1, 300), "float32")
    outputs = loaded.signatures["serving_default"](features=x)
    for number, expected in enumerate(model(x)):
        np.testing.assert_allclose(outputs[f"output_{number}"], expected, atol=1e-5)


def test_prepared_models_are_saved_as_they_compute(tmp_path):
    model = tfbig.Prune(sparsity=0.5, begin=0, end=0).prepare(wide())
    model.compile("sgd", ["mse"] * 12)
    x = np.ones((4, 300), "float32")
    model.fit(x, [x] * 12, verbose=0)
    save_inference_graph(model, tmp_path)
    loaded = tf.saved_model.load(str(tmp_path))
    outputs = loaded.signatures["serving_default"](features=x[:1])
    for number, expected in enumerate(model(x[:1])):
        np.testing.assert_allclose(outputs[f"output_{number}"], expected, atol=1e-5)


def batched(outputs_of):
    inputs = keras.Input((6,), batch_size=4)
    return keras.Model(inputs, outputs_of(layers.Dense(3)(inputs)), name="batched")


@pytest.mark.parametrize(
    ("outputs_of", "reason"),
    [
        (lambda y: y - keras.ops.mean(y, axis=0, keepdims=True), "a sample alone gives another result than in a batch"),
        (lambda y: keras.ops.reshape(y, (4, 3, 1)), "Exception encountered when calling Reshape.call"),
    ],
    ids=["mean", "reshape"],
)
def test_samples_that_depend_on_each_other_are_refused(outputs_of, reason, tmp_path):
    text = f"'batched' was built for batches of 4 and does not compute one sample by itself.*{reason}"
    with pytest.raises(InvalidModel, match=text):
        save_inference_graph(batched(outputs_of), tmp_path)


def test_a_fixed_batch_of_samples_that_stand_alone_is_one_in_the_file(tmp_path):
    save_inference_graph(batched(lambda y: y), tmp_path)
    noisy = batched(lambda y: layers.GaussianNoise(1.0)(y))
    assert input_specs(noisy, 1)[0].shape == (1, 6)


def test_inputs_without_a_name_are_called_so():
    both = [keras.Input((2,)), keras.Input((2,), name="mine"), keras.Input((2,))]
    model = keras.Model(both, layers.Concatenate()(both))
    assert [spec.name for spec in input_specs(model, 1)] == ["input", "mine", "input_2"]
