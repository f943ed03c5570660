"""A tf_keras model goes straight in, is trained by `fit` of tf_keras, and a tf_keras model comes out."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from tfmot_models import kernel, samples, tf_keras_convnet, unchanged, values_of, zeros

import tfbig
from tfbig.compression.tfmot.toolkit import toolkit, toolkit_module
from tfbig.errors import InvalidArgument, InvalidModel, InvariantBroken

TECHNIQUES = [
    tfbig.Prune(sparsity=0.75, frequency=2),
    tfbig.Cluster(clusters=8),
    tfbig.Quantize("int8"),
]


def trained(technique: Any, model: Any, *, epochs: int = 2, batch_size: int = 8) -> Any:
    prepared = technique.prepare(model)
    prepared.compile(tf_keras.optimizers.Adam(1e-3), "mse")
    prepared.fit(*samples(), epochs=epochs, batch_size=batch_size, verbose=0, callbacks=technique.callbacks())
    return prepared


@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda t: t.name)
def test_auto_takes_tfmot_and_leaves_the_model_as_it_was(technique: Any) -> None:
    model = tf_keras_convnet()
    before = values_of(model)
    prepared = trained(technique, model)
    wrapped = values_of(prepared)
    finished = technique.finish(prepared)
    technique.verify(finished)
    assert isinstance(prepared, tf_keras.Model) and isinstance(finished, tf_keras.Model)
    assert unchanged(model, before) and unchanged(prepared, wrapped)
    x = samples()[0]
    np.testing.assert_allclose(finished.predict(x, verbose=0), prepared.predict(x, verbose=0), atol=1e-6)


def test_pruned_tensors_have_the_asked_zeros_and_others_none() -> None:
    technique = tfbig.Prune(sparsity=0.75, frequency=2, layers={"conv": 0.5})
    finished = technique.finish(trained(technique, tf_keras_convnet()))
    assert zeros(kernel(finished, "conv")) == 0.5
    assert zeros(kernel(finished, "dense")) == 0.75
    assert zeros(np.asarray(finished.get_layer("depthwise").depthwise_kernel)) == 0.0
    assert [layer.name for layer in finished.layers] == [layer.name for layer in tf_keras_convnet().layers]


def test_finish_reaches_the_target_whatever_was_trained() -> None:
    technique = tfbig.Prune(sparsity=0.75, begin=0, end=1000)
    prepared = trained(technique, tf_keras_convnet())
    assert zeros(prepared.get_layer("prune_low_magnitude_dense").layer.kernel.numpy()) < 0.75
    dense = kernel(technique.finish(prepared), "dense")
    assert zeros(dense) == 0.75
    assert not np.any(np.signbit(dense[dense == 0]))  # Zeros of one sign are fewer bytes after gzip.


def test_blocks_and_patterns() -> None:
    blocks = tfbig.Prune(sparsity=0.5, begin=0, end=2, block_size=(2, 5), layers={"conv": None})
    found = kernel(blocks.finish(trained(blocks, tf_keras_convnet())), "dense")
    counts = (found.reshape(288, 2, 2, 5) == 0).sum(axis=(1, 3))
    assert set(np.unique(counts)) == {0, 10} and abs(zeros(found) - 0.5) <= 10 / found.size
    pattern = tfbig.Prune(sparsity=0.5, pattern="2:4")
    finished = pattern.finish(trained(pattern, tf_keras_convnet()))
    rows = kernel(finished, "conv").transpose(3, 0, 1, 2).reshape(-1, 4)
    assert np.all((rows != 0).sum(axis=1) == 2)


@pytest.mark.parametrize("initialization", ["kmeans++", "density", "linear", "random"])
def test_cluster_initialisations(initialization: Any) -> None:
    technique = tfbig.Cluster(clusters=6, initialization=initialization, layers={"conv": None})
    finished = technique.finish(trained(technique, tf_keras_convnet(), epochs=1))
    assert 1 < np.unique(kernel(finished, "dense")).size <= 6
    assert np.unique(kernel(finished, "conv")).size > 100


def test_finished_clusters_are_those_of_tfmot() -> None:
    technique = tfbig.Cluster(clusters=6, per_channel=True)
    prepared = trained(technique, tf_keras_convnet())
    finished = technique.finish(prepared)
    for mine, theirs in zip(
        finished.weights, toolkit().clustering.keras.strip_clustering(prepared).weights, strict=True
    ):
        np.testing.assert_array_equal(mine.numpy(), theirs.numpy())
    assert max(np.unique(channel).size for channel in np.moveaxis(kernel(finished, "conv"), -1, 0)) <= 6


def test_clusters_keep_the_zeros_of_pruning() -> None:
    prune, cluster = tfbig.Prune(sparsity=0.75, begin=0, end=0), tfbig.Cluster(clusters=8)
    pruned = prune.finish(trained(prune, tf_keras_convnet()))
    finished = cluster.finish(trained(cluster, pruned))
    for name in ("conv", "dense"):
        assert np.all(kernel(finished, name)[kernel(pruned, name) == 0] == 0)
        assert np.unique(kernel(finished, name)).size <= 8


@pytest.mark.parametrize("first", ["prune", "cluster", "both"])
def test_quantization_keeps_zeros_and_clusters(first: str) -> None:
    """Zeros stay zeros; a clustered tensor keeps its number of values, for a convolution in each channel."""
    prune, cluster = tfbig.Prune(sparsity=0.75, begin=0, end=0), tfbig.Cluster(clusters=8)
    model = tf_keras_convnet()
    techniques = {"prune": [prune], "cluster": [cluster], "both": [prune, cluster]}[first]
    for technique in techniques:
        model = technique.finish(trained(technique, model))
    quantize = tfbig.Quantize("int8")
    finished = quantize.finish(trained(quantize, model))
    for technique in (*techniques, quantize):
        technique.verify(finished)
    after = {
        layer.name: [w for w, _, _ in layer._weight_vars] for layer in finished.layers if hasattr(layer, "_weight_vars")
    }
    dense = after["quant_dense"][0].numpy()
    assert not np.array_equal(dense, kernel(model, "dense")), "the weights have not been trained"
    if prune in techniques:
        assert np.all(dense[kernel(model, "dense") == 0] == 0)
    if cluster in techniques:
        assert np.unique(dense).size <= 8
    assert not any("cluster_centroids" in v.name for v in finished.weights)


def test_zeros_are_kept_behind_a_layer_that_has_none() -> None:
    """TFMOT's own scheme gives up all zeros at the first layer without; the wrapped one does not."""
    model = tf_keras_convnet()
    inputs = model.input
    model = tf_keras.Model(inputs, tf_keras.layers.Dense(10, name="last")(model.output))
    prune = tfbig.Prune(sparsity=0.5, begin=0, end=0, layers={"dense": None})
    pruned = prune.finish(trained(prune, model, epochs=1))
    last = pruned.get_layer("last").kernel.numpy()
    pruned.get_layer("last").kernel.assign(np.where(last, np.sign(last), 0.0))  # Three values: a cluster each.
    quantize = tfbig.Quantize("int8")
    prepared = trained(quantize, pruned)
    found = prepared.get_layer("quant_last")._weight_vars[0][0].numpy()
    assert zeros(found) == 0.5 and np.unique(found).size <= 3


def test_preserve_false_lets_the_zeros_go() -> None:
    prune = tfbig.Prune(sparsity=0.5, begin=0, end=0)
    pruned = prune.finish(trained(prune, tf_keras_convnet()))
    quantize = tfbig.Quantize("int8", preserve=False)
    finished = quantize.finish(trained(quantize, pruned))
    with pytest.raises(InvariantBroken, match=r"zeros, but Prune promised 50.00%"):
        prune.verify(finished)


def test_exempt_layers_and_annotated_ones() -> None:
    quantize = tfbig.Quantize("int8", exempt="dense")
    prepared = quantize.prepare(tf_keras_convnet())
    names = [layer.name for layer in prepared.layers]
    assert "dense" in names and "quant_conv" in names


class FourBits(toolkit().quantization.keras.QuantizeConfig):  # type: ignore[misc]
    """A configuration of the user's own: four bits for the kernel, the output as it is."""

    def __init__(self) -> None:
        self.quantizer = toolkit().quantization.keras.quantizers.LastValueQuantizer(
            num_bits=4, per_axis=False, symmetric=True, narrow_range=True
        )

    def get_weights_and_quantizers(self, layer: Any) -> list:
        return [(layer.kernel, self.quantizer)]

    def get_activations_and_quantizers(self, layer: Any) -> list:
        return []

    def set_quantize_weights(self, layer: Any, weights: list) -> None:
        layer.kernel = weights[0]

    def set_quantize_activations(self, layer: Any, activations: list) -> None:
        pass

    def get_output_quantizers(self, layer: Any) -> list:
        return []

    def get_config(self) -> dict:
        return {}


def test_a_quantize_config_of_the_users_own() -> None:
    technique = tfbig.Quantize("int8", configs={"dense": FourBits()})
    prepared = trained(technique, tf_keras_convnet())
    assert isinstance(prepared.get_layer("quant_dense").quantize_config, FourBits)
    finished = technique.finish(prepared)
    assert isinstance(finished.get_layer("quant_dense").quantize_config, FourBits)
    assert technique.get_config()["configs"] == {"dense": {"class_name": "FourBits", "config": {}}}


def test_layers_that_were_annotated_by_hand_keep_their_own_way() -> None:
    annotate = toolkit().quantization.keras.quantize_annotate_layer
    model = tf_keras.Sequential([tf_keras.Input((8, 8, 4)), tf_keras.layers.Flatten()])
    model.add(annotate(tf_keras.layers.Dense(4, name="mine"), FourBits()))
    model.add(tf_keras.layers.Dense(10, name="other"))
    prepared = tfbig.Quantize("int8").prepare(model)
    configs = {layer.name: getattr(layer, "quantize_config", None) for layer in prepared.layers}
    assert isinstance(configs["quant_mine"], FourBits)
    assert type(configs["quant_other"]).__name__ == "Default8BitQuantizeConfig"


def test_steps_mean_the_same_as_natively() -> None:
    """TFMOT counts from 1, and would stop short of the final sparsity where `frequency` does not fit."""
    technique = tfbig.Prune(sparsity=0.8, begin=4, end=27, frequency=10, initial_sparsity=0.2)
    schedule = technique.prepare(tf_keras_convnet()).get_layer("prune_low_magnitude_conv").pruning_schedule
    assert (schedule.begin_step, schedule.end_step, schedule.frequency) == (5, 25, 10)
    assert float(schedule(np.int64(25))[1]) == pytest.approx(0.8) and bool(schedule(np.int64(25))[0])
    wrapper = toolkit_module("sparsity.keras.pruning_wrapper").PruneLowMagnitude
    shared = tf_keras.layers.Dense(8, name="shared")
    x, y = tf_keras.Input((8,)), tf_keras.Input((8,))
    twice = tfbig.Prune(begin=2, end=10, frequency=4).prepare(tf_keras.Model([x, y], shared(x) + shared(y)))
    (found,) = [layer.pruning_schedule for layer in twice.layers if isinstance(layer, wrapper)]
    assert (found.begin_step, found.end_step, found.frequency) == (5, 21, 8)


def test_shares_of_the_training_become_steps_when_it_begins() -> None:
    technique = tfbig.Prune(sparsity=0.75, begin=0.25, end=0.75, frequency=2)
    prepared = trained(technique, tf_keras_convnet(), epochs=4, batch_size=8)  # 16 steps
    schedule = prepared.get_layer("prune_low_magnitude_conv").pruning_schedule
    assert type(schedule).__name__ == "PolynomialDecay"
    assert (schedule.begin_step, schedule.end_step) == (5, 13)


def test_shares_without_the_callback_are_an_error() -> None:
    prepared = tfbig.Prune(sparsity=0.75).prepare(tf_keras_convnet())
    prepared.compile("sgd", "mse")
    with pytest.raises(Exception, match="are shares of the training, whose length is not known"):
        prepared.fit(*samples(), verbose=0)


def test_shares_of_an_unknown_length_are_an_error() -> None:
    technique = tfbig.Prune(sparsity=0.75)
    prepared = technique.prepare(tf_keras_convnet())
    prepared.compile("sgd", "mse")
    batches = ((x[None], y[None]) for x, y in zip(*samples(), strict=True))
    with pytest.raises(InvalidArgument, match=r"`fit` does not know how many batches .* give fit `steps_per_epoch`"):
        prepared.fit(batches, verbose=0, callbacks=technique.callbacks())


def test_a_sequential_and_a_nested_model() -> None:
    inner = tf_keras.Sequential([tf_keras.Input((6,)), tf_keras.layers.Dense(8, name="inside")], name="inner")
    model = tf_keras.Sequential([inner, tf_keras.layers.Dense(10, name="outside")])
    model.build((None, 6))
    technique = tfbig.Prune(sparsity=0.5, begin=0, end=0)
    prepared = technique.prepare(model)
    prepared.compile("sgd", "mse")
    prepared.fit(*samples(shape=(6,)), verbose=0, callbacks=technique.callbacks())
    finished = technique.finish(prepared)
    assert isinstance(finished, tf_keras.Sequential)
    assert zeros(finished.get_layer("inner").get_layer("inside").kernel.numpy()) == 0.5
    with pytest.raises(InvalidModel, match=r"holds the model 'inner' as a layer, which TFMOT does not quantize"):
        tfbig.Quantize().prepare(model)


def test_keras_3_models_take_the_native_engine_by_default() -> None:
    inputs = keras.Input((8,))
    model = keras.Model(inputs, keras.layers.Dense(8)(inputs))
    assert type(tfbig.Prune().prepare(model)).__name__ == "Prepared"
