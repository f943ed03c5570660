"""A Keras 3 model goes over the bridge, is trained by `fit` of Keras 3, saved, loaded, and comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from tfmot_models import convnet, kernel, samples, unchanged, values_of, zeros

import tfbig
from tfbig.compression.tfmot.bridged import Bridged, bridged_layer

TECHNIQUES = [
    tfbig.Prune(sparsity=0.75, frequency=2, engine="tfmot"),
    tfbig.Cluster(clusters=8, engine="tfmot"),
    tfbig.Quantize("int8", engine="tfmot"),
]


def trained(technique: Any, model: keras.Model, *, epochs: int = 2) -> keras.Model:
    prepared = technique.prepare(model)
    prepared.compile("adam", "mse")
    prepared.fit(*samples(), epochs=epochs, batch_size=8, verbose=0, callbacks=technique.callbacks())
    return prepared


def outputs(model: keras.Model) -> np.ndarray:
    return model.predict(samples()[0], verbose=0)


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.name)
def test_there_and_back(technique: Any, tmp_path: Path) -> None:
    model = convnet()
    before = values_of(model)
    prepared = trained(technique, model)
    prepared.save(tmp_path / "prepared.keras")
    loaded = keras.saving.load_model(tmp_path / "prepared.keras")
    np.testing.assert_array_equal(outputs(loaded), outputs(prepared))
    for half in (prepared, loaded):  # Training goes on where the file left off.
        half.fit(*samples(), batch_size=32, verbose=0, callbacks=technique.callbacks())
    assert loaded.evaluate(*samples(), verbose=0) == pytest.approx(prepared.evaluate(*samples(), verbose=0), abs=1e-6)
    finished = technique.finish(loaded)
    technique.verify(finished)
    assert unchanged(model, before)
    assert finished.name == model.name and isinstance(finished, keras.Model)
    np.testing.assert_allclose(outputs(finished), outputs(loaded), atol=1e-6)
    if technique.name != "quantize":
        assert [layer.name for layer in finished.layers] == [layer.name for layer in model.layers]


def test_both_generations_share_the_variables() -> None:
    prepared = tfbig.Quantize(engine="tfmot").prepare(convnet())
    inner = bridged_layer(prepared).inner
    assert {id(v.value) for v in prepared.variables} == {id(v) for v in inner.variables}
    paths = [v.path for v in prepared.variables]
    assert len(set(paths)) == len(paths) and "tfmot_quantize/quant_conv/kernel" in paths
    ranges = inner.get_layer("quant_dense").get_weights()
    prepared.compile("sgd", "mse")
    prepared.fit(*samples(), verbose=0)
    assert any(
        not np.array_equal(a, b) for a, b in zip(ranges, inner.get_layer("quant_dense").get_weights(), strict=True)
    )


@pytest.mark.parametrize("clustered", [False, True], ids=["zeros", "zeros and clusters"])
def test_zeros_and_clusters_survive_a_file_in_the_middle_of_quantization(clustered: bool, tmp_path: Path) -> None:
    prune = tfbig.Prune(sparsity=0.75, begin=0, end=0, engine="tfmot")
    cluster, quantize = tfbig.Cluster(clusters=8, engine="tfmot"), tfbig.Quantize("int8", engine="tfmot")
    model = prune.finish(trained(prune, convnet()))
    if clustered:
        model = cluster.finish(trained(cluster, model))
    trained(quantize, model).save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    loaded.fit(*samples(), epochs=2, verbose=0)
    finished = quantize.finish(loaded)
    for technique in (prune, quantize, *([cluster] if clustered else [])):
        technique.verify(finished)
    dense = bridged_layer(finished).inner.get_layer("quant_dense")._weight_vars[0][0].numpy()
    assert np.all(dense[kernel(model, "dense") == 0] == 0)


def test_the_zeros_that_clustering_keeps_survive_a_file(tmp_path: Path) -> None:
    prune, cluster = tfbig.Prune(sparsity=0.75, begin=0, end=0, engine="tfmot"), tfbig.Cluster(8, engine="tfmot")
    model = prune.finish(trained(prune, convnet()))
    trained(cluster, model).save(tmp_path / "half.keras")
    loaded = keras.saving.load_model(tmp_path / "half.keras")
    loaded.fit(*samples(), epochs=2, verbose=0)
    finished = cluster.finish(loaded)
    prune.verify(finished)
    cluster.verify(finished)
    assert zeros(kernel(finished, "dense")) >= 0.75


def test_a_sequential_model_comes_back_as_one() -> None:
    model = keras.Sequential([keras.Input((8, 8, 4)), layers.Flatten(), layers.Dense(10)], name="stack")
    technique = tfbig.Prune(sparsity=0.5, begin=0, end=0, engine="tfmot")
    finished = technique.finish(trained(technique, model))
    assert type(finished) is keras.Sequential and finished.name == "stack"
    assert zeros(finished.layers[-1].kernel.numpy()) == 0.5


class Named(keras.Model):
    """A Functional model of the user's own class, not registered anywhere."""


def test_a_class_of_the_users_own_comes_back() -> None:
    inputs = keras.Input((8, 8, 4))
    model = Named(inputs, layers.Dense(10)(layers.Flatten()(inputs)))
    technique = tfbig.Prune(sparsity=0.5, begin=0, end=0, engine="tfmot")
    assert type(technique.finish(trained(technique, model))) is Named


def test_inputs_and_outputs_keep_their_structure_and_names() -> None:
    inputs = {"image": keras.Input((8, 8, 4), name="image"), "size": keras.Input((3,), name="size")}
    x = layers.concatenate([layers.Flatten()(inputs["image"]), inputs["size"]])
    model = keras.Model(inputs, {"kind": layers.Dense(3, name="kind")(x), "box": layers.Dense(4, name="box")(x)})
    prepared = tfbig.Prune(sparsity=0.5, begin=0, end=0, engine="tfmot").prepare(model)
    x, y = samples()
    data = {"image": x, "size": y[:, :3]}
    prepared.compile("sgd", loss={"kind": "mse", "box": "mae"}, metrics={"box": ["mse"]})
    history = prepared.fit(data, {"kind": y[:, :3], "box": y[:, :4]}, verbose=0)
    assert "box_mse" in history.history
    found, expected = prepared.predict(data, verbose=0), model.predict(data, verbose=0)
    assert set(found) == {"kind", "box"} and found["box"].shape == expected["box"].shape


def test_frozen_layers_and_regularizers_stay_what_they_are() -> None:
    model = convnet()
    model.get_layer("norm").trainable = model.get_layer("conv").trainable = False
    model.get_layer("dense").kernel_regularizer = keras.regularizers.L2(0.5)
    prepared = tfbig.Prune(sparsity=0.5, begin=0, end=0, engine="tfmot").prepare(model)
    assert [v.path.split("/", 1)[1] for v in prepared.trainable_variables] == [
        "depthwise/depthwise_kernel",
        "depthwise/bias",
        "prune_low_magnitude_dense/kernel",
        "prune_low_magnitude_dense/bias",
    ]
    prepared(samples()[0])
    penalty = 0.5 * np.sum(np.square(bridged_layer(prepared).inner.get_layer("prune_low_magnitude_dense").layer.kernel))
    assert sum(float(loss) for loss in prepared.losses) == pytest.approx(float(penalty), rel=1e-5)


@pytest.mark.parametrize("technique", [TECHNIQUES[0], TECHNIQUES[2]], ids=lambda t: t.name)
def test_the_activation_behind_the_output_is_known(technique: Any) -> None:
    inputs = keras.Input((12,))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax")(inputs))
    assert bridged_layer(technique.prepare(model)).activation is keras.activations.softmax
    assert bridged_layer(technique.prepare(convnet())).activation is keras.activations.linear


def test_the_layer_can_be_copied_from_its_configuration() -> None:
    prepared = tfbig.Cluster(clusters=8, engine="tfmot").prepare(convnet())
    copy = keras.models.clone_model(prepared)
    assert isinstance(copy.layers[1], Bridged)
    copy.set_weights(prepared.get_weights())
    np.testing.assert_array_equal(outputs(copy), outputs(prepared))


def test_distillation_trains_a_student_under_tfmot() -> None:
    prune = tfbig.Prune(sparsity=0.5, begin=0, end=0, engine="tfmot")
    distill = tfbig.Distill(teacher=convnet())
    model = distill.prepare(prune.prepare(convnet()))
    model.compile("adam", "mse")
    model.fit(*samples(), verbose=0, callbacks=[*prune.callbacks(), *distill.callbacks()])
    finished = prune.finish(distill.finish(model))
    assert zeros(kernel(finished, "dense")) == 0.5


MIRRORED = """
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
import keras
import numpy as np
import tfbig
from tfmot_models import convnet, samples
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
for technique in (tfbig.Prune(0.75, frequency=2, engine="tfmot"), tfbig.Cluster(8, engine="tfmot"),
                  tfbig.Quantize(engine="tfmot")):
    with strategy.scope():
        prepared = technique.prepare(convnet())
        prepared.compile("adam", "mse")
    history = prepared.fit(*samples(), batch_size=8, epochs=2, verbose=0, callbacks=technique.callbacks())
    assert history.history["loss"][1] < history.history["loss"][0]
    assert type(prepared.variables[0].value).__name__ == "MirroredVariable"
    finished = technique.finish(prepared)
    technique.verify(finished)
technique = tfbig.Prune(0.75, frequency=2, engine="tfmot")
elsewhere = technique.prepare(convnet())
tfbig.training.fit(elsewhere, samples(), strategy=strategy, loss="mse", verbose=0, callbacks=technique.callbacks())
technique.verify(technique.finish(elsewhere))
print("trained on", strategy.num_replicas_in_sync)
"""


def test_mirrored_strategy() -> None:
    path = os.pathsep.join([str(Path(tfbig.__file__).parents[1]), str(Path(__file__).parent)])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", MIRRORED], capture_output=True, text=True, env=environment)
    assert done.stdout.strip().endswith("trained on 2"), done.stderr[-2000:]
