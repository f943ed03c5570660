"""Search on Fashion-MNIST: the front beside the named recipes, and the Bayesian search beside random recipes.

    KERAS_HOME=folder/with/datasets python benchmarks/search.py [--samples 4000] [--trials 12] [--seeds 0 1 2 3 4]

A small convolutional network is trained in float, then compressed by every named recipe and by a search of the same
epochs a stage. Prints one JSON line per file and per comparison. Accuracy is that of the saved file on the 10,000 test
images, which the search does not see: it chooses by the validation split.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
from keras import layers

import tfbig

NAMED = ("int8", "small", "balanced", "fast", "tiny")
_IMAGES = 10_000  # of the test split
_BYTES = 0.001  # share by which the gzipped files of one recipe differ when the data came in another order
_VALIDATING = 4_000  # of the 60,000 training images: fewer, and the choice between good files is a matter of luck.


def load(samples: int) -> Any:
    (x_train, y_train), test = keras.datasets.fashion_mnist.load_data()
    train = _pair(x_train[:samples], y_train[:samples])
    validation = _pair(x_train[-_VALIDATING:], y_train[-_VALIDATING:])
    return tfbig.data.load(SimpleNamespace(train=train, validation=validation, test=_pair(*test)), batch_size=64)


def float_model(data: Any, epochs: int) -> keras.Model:
    """Three convolutions and two fully connected layers, 57,000 parameters."""
    keras.utils.set_random_seed(0)
    inputs = y = keras.Input((28, 28, 1))
    for number, filters in enumerate((16, 32, 64), start=1):
        y = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False, name=f"conv{number}")(y)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))  # An epoch of few steps moves it far enough.
    y = layers.Dense(32, activation="relu", name="hidden")(layers.Flatten()(y))
    model = keras.Model(inputs, layers.Dense(10, name="scores")(y), name="small_cnn")
    tfbig.training.fit(model, data.train, epochs=epochs, schedule="cosine", learning_rate=4e-3, verbose=0)
    return model


def named(model: keras.Model, data: Any, epochs: int) -> Iterator[dict[str, Any]]:
    """A row for each recipe that tfbig brings."""
    for name in NAMED:
        started = time.monotonic()
        splits = {"train": data.train, "validation": data.validation, "test": data.test}
        result = tfbig.compress(model, name, **splits, epochs=epochs, verbose=0)
        row = _row(name, result.stages[-1].measurement)
        yield {**row, "seconds": round(time.monotonic() - started, 1)}


def front(model: keras.Model, data: Any, epochs: int, trials: int) -> Iterator[dict[str, Any]]:
    """A row for each file of the front of quality and gzipped bytes, and one for the search."""
    started = time.monotonic()
    no_limit = {"max_gzip_bytes": 1e9}  # It makes gzipped bytes what the front is about.
    result = tfbig.search(model, data, budget=no_limit, trials=trials, epochs=epochs, verbose=0)
    seconds = round(time.monotonic() - started, 1)
    for candidate in result.front:
        yield _row(candidate.name, tfbig.measure(candidate, data))
    yield {"trials": trials, "failed": sum(trial.score is None for trial in result.trials), "seconds": seconds}


def dominated(rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The best file of the front that is no larger than each named recipe's, and how far it is ahead."""
    lines = []
    for row in rows:
        small_enough = [f for f in found if f["gzip_bytes"] <= (1 + _BYTES) * row["gzip_bytes"]]
        best = max(small_enough, key=lambda f: f["accuracy"], default=None)
        ahead = round(best["accuracy"] - row["accuracy"], 2) if best else -math.inf
        noise = _noise(row["accuracy"])
        lines.append(
            {"named": row["recipe"], "by": best and best["recipe"], "ahead": ahead, "noise": noise}
            | {"dominated": ahead >= -noise}
        )
    return lines


def against_random(model: keras.Model, data: Any, epochs: int, trials: int, seed: int, limit: int) -> dict[str, Any]:
    """The best file within `limit` bytes of either algorithm: accuracy on the validation and on the test split."""
    line: dict[str, Any] = {"seed": seed, "max_bytes": limit, "trials": trials}
    for algorithm in ("bayesian", "random"):
        started = time.monotonic()
        options = {"algorithm": algorithm, "trials": trials, "epochs": epochs, "seed": seed, "verbose": 0}
        best = tfbig.search(model, data, budget={"max_bytes": limit}, **options).best
        line[algorithm] = {
            "recipe": best.name,
            "validation": _percent(best.measurement.quality),
            "test": _percent(tfbig.measure(best, data).quality),
            "bytes": best.measurement.bytes,
            "seconds": round(time.monotonic() - started, 1),
        }
    return line


def _row(name: str, found: Any) -> dict[str, Any]:
    return {
        "recipe": name,
        "accuracy": _percent(found.quality),
        "bytes": found.bytes,
        "gzip_bytes": found.gzip_bytes,
    }


def _percent(share: float | None) -> float:
    return round(100 * (share or 0.0), 2)


def _noise(accuracy: float) -> float:
    """The standard error of the difference of two accuracies on the test images, in points, as if independent."""
    share = accuracy / 100
    return round(100 * math.sqrt(2 * share * (1 - share) / _IMAGES), 2)


def _pair(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images[..., None].astype("float32") / 255, labels


def _compare_with_named(model: keras.Model, data: Any, epochs: int, trials: int) -> None:
    rows, found = [], []
    for row in named(model, data, epochs):
        rows.append(row)
        print(json.dumps(row), flush=True)
    for row in front(model, data, epochs, trials):
        print(json.dumps(row), flush=True)
        found.append(row)
    cost = found.pop()["seconds"] / np.mean([row["seconds"] for row in rows])
    for line in dominated(rows, found):
        print(json.dumps(line), flush=True)
    print(json.dumps({"cost, in named recipes": round(float(cost), 1)}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=4_000, help="training images; 4,000 others validate")
    parser.add_argument("--epochs", type=int, default=1, help="of every stage")
    parser.add_argument("--float-epochs", type=int, default=6)
    parser.add_argument("--trials", type=int, default=12, help="of the search for the front; 0 for none")
    parser.add_argument("--seeds", type=int, nargs="*", default=[], help="of comparisons with 16 random recipes each")
    parser.add_argument("--max-bytes", type=int, default=40_000, help="the limit of these comparisons")
    arguments = parser.parse_args()
    data = load(arguments.samples)
    model = float_model(data, arguments.float_epochs)
    if arguments.trials:
        _compare_with_named(model, data, arguments.epochs, arguments.trials)
    for seed in arguments.seeds:
        print(json.dumps(against_random(model, data, arguments.epochs, 16, seed, arguments.max_bytes)), flush=True)


if __name__ == "__main__":
    main()
