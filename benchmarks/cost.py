"""What training under compression costs: seconds to prepare, time per step, memory; beside plain Keras 3 and TFMOT.

    python benchmarks/cost.py [--rounds 5] [--steps 20] [--skip-tfmot] [--json FILE]

Steps are timed in one process, all variants in turn in every round, so that a busy machine slows all of them; the
figures are medians of the ratios to plain Keras `fit` in the same round, those of TFMOT (on the tf_keras twin of the
model) included. Memory is the peak of a process of its own for each variant.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

import tfbig
from benchmarks.memory import peak_mib
from tfbig.compression.tfmot.bridge import to_tf_keras

BATCH = 128
TECHNIQUES: dict[str, Callable[[], Any]] = {
    "prune": lambda: tfbig.Prune(sparsity=0.8),
    "cluster": lambda: tfbig.Cluster(clusters=16),
    "quantize": lambda: tfbig.Quantize("int8"),
}
GOALS = {"prune": 1.05, "cluster": 1.15, "quantize": 1.30}


def step_ratios(rounds: int, steps: int, skip_tfmot: bool) -> dict[str, float]:
    """Time of a training step, as a share of plain Keras `fit` of the same ResNet-8; on a CPU none uses XLA."""
    x, y = batch_of_images(BATCH * steps)
    models = {"plain": resnet8()} | {name: make().prepare(resnet8()) for name, make in TECHNIQUES.items()}
    models |= {} if skip_tfmot else tfmot_models()
    for model in models.values():
        model.compile("adam", "sparse_categorical_crossentropy")
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for turn in range(rounds + 1):  # The first turn traces and compiles.
        for name, model in models.items():
            callbacks = [tfmot().sparsity.keras.UpdatePruningStep()] if name == "TFMOT prune" else []
            started = time.perf_counter()
            model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0, callbacks=callbacks)
            if turn:
                seconds[name].append((time.perf_counter() - started) / steps)
    plain = seconds["plain"]
    return {n: statistics.median(a / b for a, b in zip(s, plain, strict=True)) for n, s in seconds.items()} | {
        "plain_ms": 1000 * statistics.median(plain)
    }


def tfmot() -> Any:
    import tensorflow_model_optimization

    return tensorflow_model_optimization


def tfmot_models() -> dict[str, Any]:
    """The same ResNet-8 in tf_keras: plain, and wrapped by TFMOT."""
    twins = [to_tf_keras(resnet8()) for _ in range(4)]
    sparsity, clustering = tfmot().sparsity.keras, tfmot().clustering.keras
    centroids = clustering.CentroidInitialization.KMEANS_PLUS_PLUS
    return {
        "tf_keras": twins[0],
        "TFMOT prune": sparsity.prune_low_magnitude(twins[1], sparsity.PolynomialDecay(0.0, 0.8, 0, 100)),
        "TFMOT cluster": clustering.cluster_weights(twins[2], 16, centroids),
        "TFMOT quantize": tfmot().quantization.keras.quantize_model(twins[3]),
    }


def prepare_seconds(skip_tfmot: bool) -> list[dict[str, Any]]:
    """Seconds of `Quantize.prepare` on ResNets of three depths, and of TFMOT's `quantize_model` on their twins."""
    rows = []
    for name in ("ResNet50", "ResNet101", "ResNet152"):
        model = tfbig.models.build(name, input_shape=(64, 64, 3), classes=10)
        row = {"model": name, "layers": len(model.layers), "tfbig": seconds_of(lambda m=model: prepare(m))}
        if not skip_tfmot:
            row["tfmot"] = seconds_of(tfmot_twin(name))
            row["ratio"] = row["tfbig"] / row["tfmot"]
        rows.append(row)
    return rows


def prepare(model: keras.Model) -> None:
    tfbig.Quantize("int8").prepare(model)


def tfmot_twin(name: str) -> Callable[[], Any]:
    import tf_keras

    twin = getattr(tf_keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=10)
    return lambda: tfmot().quantization.keras.quantize_model(twin)


def memory_ratios() -> dict[str, float]:
    """Peak memory of training a ResNet-8, each variant in a process of its own, as a share of plain `fit`."""
    peaks = {}
    for name in ("plain", *TECHNIQUES):
        answer = subprocess.run(
            [sys.executable, __file__, "--memory-of", name], capture_output=True, text=True, check=True
        )
        peaks[name] = float(answer.stdout.splitlines()[-1])
    return {name: peak / peaks["plain"] for name, peak in peaks.items()} | {"plain_mib": peaks["plain"]}


def peak_memory_mib(name: str) -> float:
    model = resnet8()
    model = model if name == "plain" else TECHNIQUES[name]().prepare(model)
    model.compile("adam", "sparse_categorical_crossentropy")
    x, y = batch_of_images(BATCH * 4)
    model.fit(x, y, batch_size=BATCH, epochs=2, verbose=0)
    return peak_mib()


def resnet8() -> keras.Model:
    return tfbig.models.build("resnet", depth=8, input_shape=(32, 32, 3), classes=10)


def batch_of_images(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((count, 32, 32, 3), dtype="float32"), rng.integers(0, 10, count)


def seconds_of(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return round(time.perf_counter() - started, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--skip-tfmot", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(peak_memory_mib(arguments.memory_of))
        return
    found: dict[str, Any] = {}
    found["step time"] = step_ratios(arguments.rounds, arguments.steps, arguments.skip_tfmot)
    print(f"step time: {show(found['step time'])}", flush=True)
    found["peak memory"] = memory_ratios()
    print(f"peak memory: {show(found['peak memory'])}", flush=True)
    found["prepare seconds"] = prepare_seconds(arguments.skip_tfmot)
    for row in found["prepare seconds"]:
        print(f"prepare: {show(row)}", flush=True)
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(found, file, indent=1)


def show(values: dict[str, Any]) -> str:
    parts = []
    for name, value in values.items():
        goal = f" (goal {GOALS[name]:.2f})" if name in GOALS else ""
        parts.append(f"{name} {value:.2f}{goal}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(parts)


if __name__ == "__main__":
    main()
