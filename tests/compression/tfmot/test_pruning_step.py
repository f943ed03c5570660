"""The callback of pruning fits into `fit` of both Keras generations, and does nothing where it has nothing to do."""

from __future__ import annotations

import keras
import tf_keras
from tfmot_models import convnet, kernel, samples, tf_keras_convnet, zeros

import tfbig
from tfbig.compression.tfmot.callback import PruningStep


def test_the_native_engine_needs_none() -> None:
    assert tfbig.Prune(engine="native").callbacks() == []
    assert [type(callback) for callback in tfbig.Prune().callbacks()] == [PruningStep]
    assert tfbig.Cluster().callbacks() == tfbig.Quantize().callbacks() == []


def test_it_is_harmless_without_pruning() -> None:
    for model, generation in ((convnet(), keras), (tf_keras_convnet(), tf_keras)):
        model.compile("sgd", "mse")
        history = model.fit(*samples(), epochs=2, verbose=0, callbacks=[PruningStep()])
        assert isinstance(history, generation.callbacks.History) and len(history.history["loss"]) == 2


def test_it_is_harmless_with_the_native_engine() -> None:
    technique = tfbig.Prune(sparsity=0.5, begin=0, end=0)
    prepared = technique.prepare(convnet())
    prepared.compile("sgd", "mse")
    prepared.fit(*samples(), verbose=0, callbacks=technique.callbacks())
    assert zeros(kernel(technique.finish(prepared), "dense")) == 0.5


def test_weights_are_masked_after_every_epoch() -> None:
    """A checkpoint that is written between epochs has the zeros, as with TFMOT's own callback."""
    technique = tfbig.Prune(sparsity=0.5, begin=0, end=0, engine="tfmot")
    prepared = technique.prepare(convnet())
    found = []
    watch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: found.append(
            [zeros(v.numpy()) for v in prepared.variables if v.path.endswith("dense/kernel")]
        )
    )
    prepared.compile(keras.optimizers.Adam(0.1), "mse")
    prepared.fit(*samples(), epochs=2, verbose=0, callbacks=[*technique.callbacks(), watch])
    assert found == [[0.5], [0.5]]


def test_without_it_steps_are_counted_all_the_same() -> None:
    """Given in steps, the schedule also runs in a training loop of one's own."""
    technique = tfbig.Prune(sparsity=0.5, begin=0, end=4, frequency=2, engine="tfmot")
    prepared = technique.prepare(convnet())
    for _ in range(6):
        prepared(samples()[0], training=True)
    steps = [int(v.numpy()) for v in prepared.variables if "pruning_step" in v.path]
    assert steps == [6, 6]
    assert zeros(next(v for v in prepared.variables if v.path.endswith("dense/kernel")).numpy()) == 0.5
