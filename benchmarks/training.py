"""Training speed: `tfbig.training.fit` beside Keras 3's `fit` and tf_keras's, in turn in one process.

    python benchmarks/training.py [--rounds 5] [--models mlp resnet8 ...] [--only speed accumulation memory mirrored]

Each round runs every variant once, so that a busy machine slows all of them; the figures are medians of the ratios
within a round, above 1 where tfbig is faster, by the clock and in processor time, which other programs disturb less.
Keras is written as its users write it: `compile` and `fit` with arrays. tfbig chooses XLA or not (`jit_compile="auto"`)
in a first training that is said to be long, and is stopped when it has chosen.
Memory and several devices are measured in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import tensorflow as tf

import tfbig
from benchmarks.memory import peak_mib
from tfbig.compression.tfmot.bridge import to_tf_keras
from tfbig.errors import TfbigError

Arrays = tuple[Any, np.ndarray]
RANDOM = np.random.default_rng(0)
LOSS = {"recommender": "binary_crossentropy"}
PARTS = ("speed", "accumulation", "memory", "mirrored")


def images(count: int) -> Arrays:
    return RANDOM.random((count, 32, 32, 3), dtype="float32"), RANDOM.integers(0, 10, count)


def features(count: int) -> Arrays:
    return RANDOM.random((count, 1000), dtype="float32"), RANDOM.integers(0, 10, count)


def tokens(count: int) -> Arrays:
    return RANDOM.integers(0, 10_000, (count, 100)), RANDOM.integers(0, 2, count)


def pairs(count: int) -> Arrays:
    ids = {"user": RANDOM.integers(0, 50_000, count), "item": RANDOM.integers(0, 10_000, count)}
    return ids, RANDOM.integers(0, 2, count)


# Builder, data, batch size, batches of one timed turn.
CASES: dict[str, tuple[Callable[[], keras.Model], Callable[[int], Arrays], int, int]] = {
    "mlp": (lambda: tfbig.models.build("mlp"), features, 32, 40),
    "resnet8": (lambda: tfbig.models.build("resnet"), images, 32, 16),
    "resnet50": (lambda: tfbig.models.build("ResNet50", input_shape=(32, 32, 3), classes=10), images, 32, 4),
    "transformer": (lambda: tfbig.models.build("text_classifier", vocabulary=10_000, length=100), tokens, 32, 10),
    "recommender": (lambda: tfbig.models.build("recommender", users=50_000), pairs, 256, 40),
}


def speed(name: str, rounds: int) -> dict[str, float]:
    """Examples per second of tfbig, and how often those of each other variant, by the clock and in processor time."""
    build, make_data, batch, steps = CASES[name]
    x, y = make_data(batch * steps)
    turns = {"tfbig": with_tfbig(name, build(), x, y, batch)}
    for label, jit in (("Keras", "auto"), ("Keras, no XLA", False), ("Keras, XLA", True)):
        turns[label] = with_keras(name, build(), x, y, batch, jit_compile=jit)
    try:
        turns["tf_keras"] = with_keras(name, to_tf_keras(build()), x, y, batch)
    except (TfbigError, TypeError, ValueError) as error:
        print(f"  {name}: no tf_keras twin: {str(error).splitlines()[0][:150]}", flush=True)
    clocks = timed(turns, rounds)
    found = {"examples/s": batch * steps / statistics.median(clocks["tfbig"][0])}
    for label in list(turns)[1:]:
        for index, unit in enumerate(("", " (processor)")):
            found[f"over {label}{unit}"] = median_ratio(clocks[label][index], clocks["tfbig"][index])
    return found


def with_tfbig(name: str, model: keras.Model, x: Any, y: np.ndarray, batch: int, **options: Any) -> Callable[[], Any]:
    model.compile("adam", LOSS.get(name, "sparse_categorical_crossentropy"), metrics=["accuracy"])
    turns = iter([{"epochs": 100_000, "jit_compile": "auto", "callbacks": [Stop(after=16)]}])

    def turn() -> None:
        tfbig.training.fit(model, (x, y), batch_size=batch, verbose=0, **options, **next(turns, {}))

    return turn


class Stop(keras.callbacks.Callback):
    """Ends a training after some batches."""

    def __init__(self, after: int):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.left -= 1
        self.model.stop_training = self.left <= 0


def with_keras(name: str, model: Any, x: Any, y: np.ndarray, batch: int, **options: Any) -> Callable[[], Any]:
    model.compile("adam", LOSS.get(name, "sparse_categorical_crossentropy"), metrics=["accuracy"], **options)
    return lambda: model.fit(x, y, batch_size=batch, verbose=0)


def timed(turns: dict[str, Callable[[], Any]], rounds: int) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds and processor seconds of each variant in each round, without the first, which traces and compiles."""
    found: dict[str, tuple[list[float], list[float]]] = {label: ([], []) for label in turns}
    for turn in range(rounds + 1):
        for label in list(turns) if turn % 2 else reversed(turns):
            started = time.perf_counter(), time.process_time()
            turns[label]()
            for values, now, then in zip(
                found[label], (time.perf_counter(), time.process_time()), started, strict=True
            ):
                if turn:
                    values.append(now - then)
    return found


def median_ratio(slower: list[float], faster: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def accumulation(rounds: int) -> list[float]:
    """Time, and processor time, of 8 accumulated batches of 32 over those of one batch of 256, ResNet-8."""
    x, y = images(256 * 6)
    models = [tfbig.models.build("resnet") for _ in range(2)]

    def train(model: keras.Model, **options: Any) -> Callable[[], Any]:
        adam = keras.optimizers.Adam(gradient_accumulation_steps=8 if options["batch_size"] == 32 else None)
        model.compile(adam, "sparse_categorical_crossentropy")
        return lambda: tfbig.training.fit(model, (x, y), verbose=0, **options)

    turns = {"accumulated": train(models[0], batch_size=32), "large": train(models[1], batch_size=256)}
    found = timed(turns, rounds)
    return [median_ratio(found["accumulated"][clock], found["large"][clock]) for clock in (0, 1)]


def training_mib(recompute: str) -> float:
    """How much memory training a ResNet-56 takes on top of what the process had before."""
    model = tfbig.models.build("resnet", depth=56)
    x, y = images(128 * 3)
    before = peak_mib()
    tfbig.training.fit(model, (x, y), batch_size=128, recompute=recompute == "True", verbose=0)
    return peak_mib() - before


def mirrored_seconds(devices: str) -> float:
    """Seconds of a step of a ResNet-8 with a global batch of 128 on some logical CPUs of this machine."""
    parts = [tf.config.LogicalDeviceConfiguration()] * int(devices)
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    strategy = tfbig.training.strategy("mirrored" if int(devices) > 1 else "none")
    x, y = images(128 * 8)
    with strategy.scope():
        model = tfbig.models.build("resnet")
        model.compile("adam", "sparse_categorical_crossentropy")
    seconds = timed({"": lambda: tfbig.training.fit(model, (x, y), batch_size=128, strategy=strategy, verbose=0)}, 3)
    return min(seconds[""][0]) / 8


def show(clocks: list[float]) -> str:
    return f"{clocks[0]:.2f}, in processor time {clocks[1]:.2f}"


def in_a_process(measure: str, argument: object) -> float:
    command = [sys.executable, __file__, "--measure", measure, str(argument)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(answer.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--models", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure = {"training_mib": training_mib, "mirrored_seconds": mirrored_seconds}[options.measure[0]]
        print(measure(options.measure[1]))
        return
    found: dict[str, Any] = {}
    for name in options.models if "speed" in options.only else ():
        found[name] = speed(name, options.rounds)
        print(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in found[name].items()), flush=True)
    if "accumulation" in options.only:
        found["accumulation"] = accumulation(options.rounds)
        print(f"8 accumulated batches over one large batch: {show(found['accumulation'])} (goal 1.05)", flush=True)
    if "memory" in options.only:
        plain, less = (in_a_process("training_mib", recompute) for recompute in (False, True))
        found["memory"] = {"plain_mib": plain, "recompute_mib": less}
        print(
            f"memory of ResNet-56: {plain:.0f} MiB, recomputing {less:.0f}: {less / plain:.2f} (goal 0.6)", flush=True
        )
    if "mirrored" in options.only:
        found["mirrored"] = {devices: in_a_process("mirrored_seconds", devices) for devices in (1, 2, 4)}
        one = found["mirrored"][1]
        for devices, seconds in found["mirrored"].items():
            print(f"{devices} logical devices: {1000 * seconds:.0f} ms a step, {seconds / one:.2f} of one", flush=True)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
