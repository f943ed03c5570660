"""The graph in a folder that converters read."""

import keras
import numpy as np
import tensorflow as tf

import tfbig
from tfbig.exporters.inference_graph import save_inference_graph


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
