"""What both engines make of the same training, and where they differ: the figures of docs/coming_from_tfmot.md.

python benchmarks/engines.py [--differences] [--json FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras  # noqa: E402
import numpy as np  # noqa: E402
from keras import layers  # noqa: E402

import tfbig  # noqa: E402
from tfbig.compression.native.inference import ranges_at_points  # noqa: E402
from tfbig.compression.tfmot.bridged import bridged_layer  # noqa: E402
from tfbig.compression.tfmot.toolkit import toolkit  # noqa: E402

ENGINES = ("native", "tfmot")
_EPOCHS = 3
_TECHNIQUES: dict[str, Any] = {
    "prune 0.8": lambda engine: tfbig.Prune(sparsity=0.8, engine=engine),
    "cluster 16": lambda engine: tfbig.Cluster(clusters=16, engine=engine),
    "quantize int8": lambda engine: tfbig.Quantize("int8", engine=engine),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One technique by one engine, three seeds; accuracy of the saved LiteRT file on the test digits."""

    technique: str
    engine: str
    accuracy: float
    deviation: float  # standard deviation over the seeds
    file_bytes: int
    prepare_seconds: float
    step_ms: float  # of the last epoch


def main() -> int:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description="What both engines make of the same training.")
    parser.add_argument("--differences", action="store_true", help="only where they differ, not the training")
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    found: dict[str, Any] = {}
    data = tfbig.data.load("digits", batch_size=32)
    model = _trained(data)
    for name in () if options.differences else _TECHNIQUES:
        for engine in ENGINES:
            row = _row(name, engine, model, data)
            found[f"{name} {engine}"] = dataclasses.asdict(row)
            print(
                f"{name:14} {engine:7} accuracy {row.accuracy:.2%} ± {row.deviation:.2%}  {row.file_bytes:,} bytes  "
                f"prepare {row.prepare_seconds:.2f} s  {row.step_ms:.1f} ms a step",
                flush=True,
            )
    for measure in (short_schedule, clusters_after_quantization, range_after_sixty_steps):
        found[measure.__name__] = measure(model, data)
        print(measure.__name__.replace("_", " "), found[measure.__name__], flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))
    return 0


def short_schedule(model: keras.Model, data: Any) -> dict[str, float]:
    """The zeros that a schedule of 60 steps has reached at its end, the masks being renewed every 100 steps."""
    import tf_keras

    sparsity = toolkit().sparsity.keras
    old = tf_keras.Sequential([tf_keras.Input((64,)), tf_keras.layers.Dense(32, name="dense")])
    x = np.random.default_rng(0).random((60, 64), "float32")
    wrapped = sparsity.prune_low_magnitude(old, sparsity.PolynomialDecay(0.0, 0.8, 0, 60, frequency=100))
    ours = tfbig.Prune(sparsity=0.8, begin=0, end=60, frequency=100).prepare(old)
    reached = {}
    for name, prepared in (("TFMOT", wrapped), ("tfbig", ours)):
        prepared.compile("sgd", "mse")
        prepared.fit(x, x[:, :32], batch_size=1, epochs=2, verbose=0, callbacks=[sparsity.UpdatePruningStep()])
        kernel = prepared.get_layer("prune_low_magnitude_dense").layer.kernel.numpy()
        reached[name] = round(float(np.mean(kernel == 0)), 3)
    return reached


def clusters_after_quantization(model: keras.Model, data: Any) -> dict[str, int]:
    """Distinct values in the largest convolution after clustering to 4 and quantization that keeps clusters."""
    counted = {}
    for engine in ENGINES:
        made = model
        for technique in (tfbig.Cluster(4, engine=engine), tfbig.Quantize("int8", engine=engine)):
            prepared = technique.prepare(made)
            _fit(prepared, data, technique, 1)
            made = technique.finish(prepared)
        variables = [v for v in made.variables if v.path.endswith("body/kernel")]
        counted[engine] = int(np.unique(variables[0].numpy()).size)
    return counted


def range_after_sixty_steps(model: keras.Model, data: Any) -> dict[str, float]:
    """Where the range of the first ReLU ends, and the largest value that it has on the training data."""
    x = np.concatenate([x for x, _ in data.train])
    values = keras.Model(model.inputs, model.get_layer("stem_relu").output).predict(x, verbose=0)
    told = {"true maximum": round(float(values.max()), 2)}
    for engine in ENGINES:
        prepared = tfbig.Quantize("int8", engine=engine).prepare(model)
        prepared.trainable = False
        for _ in range(60):
            prepared(x, training=True)
        told[engine] = round(_end_of_range(prepared, x[:64], values[:64]), 2)
    return told


def _end_of_range(prepared: keras.Model, x: np.ndarray, values: np.ndarray) -> float:
    layer = bridged_layer(prepared)
    if layer is not None:
        return float(layer.inner.get_layer("quant_stem_relu").get_weights()[-1])
    points = [one for one in ranges_at_points(prepared, [x]) if one[0].shape == values.shape]
    return min(points, key=lambda one: np.abs(one[0] - values).mean())[1][1]


def _row(name: str, engine: str, model: keras.Model, data: Any) -> Row:
    technique = _TECHNIQUES[name](engine)
    accuracies, size, seconds, step = [], 0, 0.0, 0.0
    for seed in range(3):
        keras.utils.set_random_seed(seed)
        start = time.perf_counter()
        prepared = technique.prepare(model)
        seconds = time.perf_counter() - start
        step = _fit(prepared, data, technique, _EPOCHS)
        with tempfile.TemporaryDirectory() as folder:
            file = tfbig.export(technique.finish(prepared), Path(folder) / "model.tflite")
            accuracies.append(tfbig.measure(file, data).quality)
            size = file.stat().st_size
    return Row(name, engine, float(np.mean(accuracies)), float(np.std(accuracies)), size, seconds, step)


def _fit(prepared: keras.Model, data: Any, technique: Any, epochs: int) -> float:
    """Trains; returns the milliseconds of a step in the last epoch."""
    prepared.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", jit_compile=False)
    begins: list[float] = []
    clock = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: begins.append(time.perf_counter()))
    callbacks = [*technique.callbacks(), clock]
    prepared.fit(data.train, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks)
    return 1000 * (time.perf_counter() - begins[-1]) / len(list(data.train))


def _trained(data: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = stem = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.Conv2D(16, 3, padding="same", name="body")(x)
    x = layers.MaxPooling2D()(layers.ReLU()(layers.Add()([stem, x])))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="scores")(layers.Flatten()(x)))
    model.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy", jit_compile=False)
    model.fit(data.train, epochs=10, verbose=0, shuffle=False)
    return model


if __name__ == "__main__":
    sys.exit(main())
