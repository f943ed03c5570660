"""Recipes of prune, cluster and quantize through `compress` on either engine; and both engines learn equally well."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest

import tfbig
from tfbig.compression.tfmot.bridged import bridged_layer

ENGINES = ("native", "tfmot")
STAGES = {
    "prune": lambda engine: tfbig.Prune(sparsity=0.6, end=0.5, frequency=2, engine=engine),
    "cluster": lambda engine: tfbig.Cluster(clusters=12, engine=engine),
    "quantize": lambda engine: tfbig.Quantize("int8", engine=engine),
}


@pytest.mark.parametrize(
    ("names", "engine"),
    [
        (("prune", "quantize"), "tfmot"),
        (("cluster", "quantize"), "tfmot"),
        (("prune", "cluster", "quantize"), "tfmot"),
        (("prune", "cluster", "quantize"), "native"),
    ],
)
def test_each_stage_keeps_what_earlier_ones_made(
    names: tuple[str, ...], engine: str, small_model: keras.Model, fresh_digits: Any
) -> None:
    data = fresh_digits()
    techniques = [STAGES[name](engine) for name in names]
    result = tfbig.compress(
        small_model, techniques, train=data.train, test=data.test, epochs=3, learning_rate=2e-3, verbose=0
    )
    assert (bridged_layer(result.model) is not None) == (engine == "tfmot")
    for technique in techniques:
        technique.verify(result.model)
    first, last = result.stages[0].measurement, result.stages[-1].measurement
    inside = tfbig.inspect(result.stages[-1].file)
    assert not inside.float_ops
    assert last.quality > first.quality - 0.05
    weights = [op for op in inside.ops if op.weights and op.weights > 100]
    assert len(weights) == 2  # the second convolution and the classifier
    if "prune" in names:
        assert all(op.zero_fraction > 0.59 for op in weights)
    if "cluster" in names:
        assert all(op.distinct_per_channel <= 12 for op in weights)


@pytest.mark.parametrize("name", STAGES)
def test_accuracy_after_the_same_training_is_that_of_tfmot_or_better(
    name: str, small_model: keras.Model, fresh_digits: Any
) -> None:
    """Three seeds each; ours may be lower by what seeds differ, and by two of the 160 test images."""
    scores: dict[str, list[float]] = {engine: [] for engine in ENGINES}
    for engine in ENGINES:
        technique = STAGES[name](engine)
        prepared = technique.prepare(small_model)
        prepared.compile(keras.optimizers.SGD(0.05), "sparse_categorical_crossentropy", jit_compile=False)
        start = prepared.get_weights()
        for seed in range(3):
            prepared.set_weights(start)
            keras.utils.set_random_seed(seed)
            data = fresh_digits()
            prepared.fit(data.train, epochs=3, verbose=0, shuffle=False, callbacks=technique.callbacks())
            finished = technique.finish(prepared)
            x, y = next(iter(data.test.unbatch().batch(1000)))
            scores[engine].append(float(np.mean(np.argmax(finished(x, training=False), -1) == y.numpy())))
    noise = max(np.std(values) for values in scores.values())
    assert np.mean(scores["native"]) >= np.mean(scores["tfmot"]) - 2 * noise - 2 / 160, scores
    assert min(np.mean(values) for values in scores.values()) > 0.7
