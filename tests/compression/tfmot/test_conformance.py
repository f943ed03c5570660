"""Where both engines can run they agree: TFMOT is the oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from tfmot_models import convnet, samples

import tfbig
from tfbig.compression.native.clustering import nearest
from tfbig.compression.tfmot.bridged import bridged_layer
from tfbig.compression.tfmot.toolkit import toolkit_module

SCHEDULES: list[dict[str, Any]] = [
    {"sparsity": 0.8, "begin": 0, "end": 12, "frequency": 3},
    {"sparsity": 0.7, "initial_sparsity": 0.3, "begin": 4, "end": 10, "frequency": 2, "power": 1.0},
    {"sparsity": 0.5, "schedule": "constant", "begin": 3, "end": 9, "frequency": 3},
    {"sparsity": 0.6, "begin": 2, "end": 2},
    {"sparsity": 0.5, "begin": 0, "end": 8, "frequency": 4, "block_size": (2, 2), "layers": {"conv": None}},
]


def masks(prepared: keras.Model) -> dict[str, np.ndarray]:
    """The masks of the layers that both engines prune."""
    layer = bridged_layer(prepared)
    if layer is None:
        kernels = prepared.machines[0].kernels
        found = {k.layer.name: m.numpy() for k, m in zip(kernels, prepared.machines[0].masks, strict=True)}
        return {name: mask for name, mask in found.items() if name in ("conv", "dense")}
    wrappers = [w for w in layer.inner.layers if hasattr(w, "pruning_vars")]
    return {w.layer.name: w.pruning_vars[0][1].numpy() for w in wrappers}


@pytest.mark.parametrize("options", SCHEDULES, ids=lambda o: "-".join(map(str, o.values())))
def test_the_same_schedule_gives_the_same_masks_at_every_step(options: dict[str, Any]) -> None:
    model, x = convnet(), samples()[0]
    native, tfmot = (tfbig.Prune(**options, engine=engine).prepare(model) for engine in ("native", "tfmot"))
    for step in range(14):
        for prepared in (native, tfmot):
            prepared(x, training=True)
        ours, theirs = masks(native), masks(tfmot)
        assert ours.keys() == theirs.keys() and ours
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name].astype(bool), err_msg=f"{name} at step {step}")
    assert any(not np.all(mask) for mask in ours.values())


def test_the_same_masks_while_the_weights_train() -> None:
    """Small steps of the optimizer: zeroed weights cannot come back in either engine."""
    model, found = convnet(), []
    for engine in ("native", "tfmot"):
        technique = tfbig.Prune(sparsity=0.8, begin=0, end=12, frequency=3, engine=engine)
        prepared = technique.prepare(model)
        prepared.compile(keras.optimizers.SGD(1e-4), "mse", jit_compile=False)
        prepared.fit(*samples(), batch_size=4, epochs=2, shuffle=False, verbose=0, callbacks=technique.callbacks())
        found.append(masks(prepared))
    for name in found[0]:
        assert np.mean(found[0][name] == found[1][name].astype(bool)) > 0.999


def test_2_of_4_keeps_the_same_weights() -> None:
    model, x, finished = convnet(), samples()[0], []
    for engine in ("native", "tfmot"):
        technique = tfbig.Prune(sparsity=0.5, pattern="2:4", layers={"depthwise": None}, engine=engine)
        prepared = technique.prepare(model)
        prepared(x, training=True)
        finished.append(technique.finish(prepared))
    for name in ("conv", "dense"):
        ours, theirs = (model.get_layer(name).kernel.numpy() for model in finished)
        np.testing.assert_array_equal(ours, theirs)


def test_the_same_centroids_give_the_same_assignments() -> None:
    algorithm = toolkit_module("clustering.keras.clustering_algorithm").ClusteringAlgorithm
    rng = np.random.default_rng(0)
    for clusters in (2, 7, 32):
        weights = rng.normal(size=(3, 3, 5, 40)).astype("float32")
        centroids = np.sort(rng.normal(size=clusters)).astype("float32")
        theirs = algorithm(tf.Variable(centroids)).get_pulling_indices(tf.constant(weights))
        ours = nearest(tf.reshape(weights, (1, -1)), tf.constant(centroids[None]))
        np.testing.assert_array_equal(np.ravel(ours), np.ravel(theirs))


def test_linear_centroids_are_the_same() -> None:
    model = convnet()
    finished = []
    for engine in ("native", "tfmot"):
        technique = tfbig.Cluster(8, initialization="linear", layers={"depthwise": None}, engine=engine)
        finished.append(technique.finish(technique.prepare(model)))
    for name in ("conv", "dense"):
        ours, theirs = (model.get_layer(name).kernel.numpy() for model in finished)
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def convolutions(end: str) -> keras.Model:
    """Convolutions, whose weights both engines round per channel, large enough that names weigh little in the file."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(32, 3, padding="same")(inputs)
    x = layers.BatchNormalization(momentum=0.0)(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(layers.ReLU()(x))
    x = layers.ReLU()(layers.Add()([x, layers.Conv2D(64, 3, padding="same")(x)]))
    if end == "pooling":
        return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    if end == "dense":
        return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))
    return keras.Model(inputs, layers.Flatten()(layers.Conv2D(64, 3)(layers.MaxPooling2D()(x))))


def run(path: Path, x: np.ndarray) -> tuple[np.ndarray, float]:
    """The file's outputs, and the quantization step between them."""
    runner = Interpreter(str(path)).get_signature_runner()
    (name,) = runner.get_input_details()
    outputs = np.concatenate([next(iter(runner(**{name: row[None]}).values())) for row in x])
    gaps = np.diff(np.unique(outputs))
    return outputs, float(gaps[gaps > 1e-5].min())


@pytest.mark.parametrize(("end", "steps"), [("pooling", 1), ("convolution", 1), ("dense", 3)])
def test_integer_files_agree(end: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To one quantization step on 256 inputs; but for Dense: TFMOT rounds it with one scale, we with one per channel.

    TFMOT's moving averages, which begin at 6 and forget by 0.999, are sped up here: thousands of steps would end there.
    """
    ops = toolkit_module("quantization.keras.quant_ops")
    original = ops.MovingAvgQuantize
    monkeypatch.setattr(ops, "MovingAvgQuantize", lambda *a, **k: original(*a, **{**k, "ema_decay": 0.5}))
    model, x = convolutions(end), samples(256)[0]
    for _ in range(2):
        model(x, training=True)  # Statistics that further batches do not change.
    outputs, scales, sizes = [], [], []
    for engine in ("native", "tfmot"):
        technique = tfbig.Quantize("int8", engine=engine)
        prepared = technique.prepare(model)
        for _ in range(30):
            prepared(x, training=True)
        path = tfbig.export(technique.finish(prepared), tmp_path / f"{engine}.tflite")
        result, scale = run(path, x)
        outputs.append(result)
        scales.append(scale)
        sizes.append(path.stat().st_size)
        assert not tfbig.inspect(path).float_ops
    assert scales[0] == pytest.approx(scales[1], rel=0.02)
    assert np.max(np.abs(outputs[0] - outputs[1])) <= (steps + 0.1) * max(scales)
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)
