"""Search on Fashion-MNIST: the front beside the named recipes, and the Bayesian search beside random recipes.

    KERAS_HOME=folder/with/datasets python benchmarks/search.py [--samples 12000] [--epochs 1] [--trials 12] [--seeds 1]

A ResNet-8 is trained in float, then compressed by every named recipe and by a search of the same epochs a stage.
Prints one JSON line per file and per comparison. Accuracy is that of the saved file on the 10,000 test images, which
the search does not see; its choice, and the comparison with random recipes, is by the validation split.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

import tfbig


def load(samples: int) -> Any:
    (x_train, y_train), test = keras.datasets.fashion_mnist.load_data()
    train = _pair(x_train[:samples], y_train[:samples])
    return tfbig.data.load(SimpleNamespace(train=train, validation=None, test=_pair(*test)), batch_size=128)


def float_model(data: Any, epochs: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("resnet", depth=8, input_shape=(28, 28, 1), classes=10, weight_decay=0.0)
    tfbig.training.fit(model, data.train, epochs=epochs, schedule="cosine", learning_rate=4e-3, verbose=0)
    return model


def named(model: keras.Model, data: Any, epochs: int) -> Iterator[dict[str, Any]]:
    for name in ("int8", "small", "balanced", "fast", "tiny"):
        started = time.monotonic()
        splits = {"train": data.train, "validation": data.validation, "test": data.test}
        result = tfbig.compress(model, name, **splits, epochs=epochs, verbose=0)
        yield _row(name, result.stages[-1].measurement, time.monotonic() - started)


def front(model: keras.Model, data: Any, epochs: int, trials: int) -> Iterator[dict[str, Any]]:
    started = time.monotonic()
    result = tfbig.search(model, data, trials=trials, epochs=epochs, verbose=0)
    for candidate in result.front:
        yield _row(candidate.name, tfbig.measure(candidate, data), 0.0)
    yield {"search": trials, "seconds": round(time.monotonic() - started, 1)}


def against_random(model: keras.Model, data: Any, epochs: int, trials: int, seed: int, limit: int) -> dict[str, Any]:
    """The score of the best file within `limit` bytes, on the validation split, of either algorithm."""
    best = {}
    for algorithm in ("bayesian", "random"):
        options = {"algorithm": algorithm, "trials": trials, "epochs": epochs, "seed": seed, "verbose": 0}
        result = tfbig.search(model, data, budget={"max_bytes": limit}, **options)
        best[algorithm] = round(100 * (result.best.measurement.quality or 0.0), 2)
    return {"seed": seed, "max_bytes": limit, **best}


def dominated(rows: list[dict[str, Any]], found: list[dict[str, Any]]) -> dict[str, bool]:
    """Whether a file of the front is as good and as small as each named recipe's."""
    return {
        row["recipe"]: any(f["accuracy"] >= row["accuracy"] and f["bytes"] <= row["bytes"] for f in found)
        for row in rows
    }


def _row(name: str, found: Any, seconds: float) -> dict[str, Any]:
    accuracy = round(100 * (found.quality or 0.0), 2)
    return {"recipe": name, "accuracy": accuracy, "bytes": found.bytes, "gzip_bytes": found.gzip_bytes} | (
        {"seconds": round(seconds, 1)} if seconds else {}
    )


def _pair(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images[..., None].astype("float32") / 255, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=12_000, help="training images, of which a tenth validates")
    parser.add_argument("--epochs", type=int, default=1, help="of every stage")
    parser.add_argument("--float-epochs", type=int, default=4)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seeds", type=int, default=1, help="comparisons with random recipes; 0 for none")
    parser.add_argument("--max-bytes", type=int, default=60_000, help="the limit of these comparisons")
    arguments = parser.parse_args()
    data = load(arguments.samples)
    model = float_model(data, arguments.float_epochs)
    rows, found = [], []
    for row in named(model, data, arguments.epochs):
        rows.append(row)
        print(json.dumps(row), flush=True)
    for row in front(model, data, arguments.epochs, arguments.trials):
        print(json.dumps(row), flush=True)
        found += [row] if "recipe" in row else []
    print(json.dumps({"dominated": dominated(rows, found)}), flush=True)
    for seed in range(arguments.seeds):
        outcome = against_random(model, data, arguments.epochs, arguments.trials, seed, arguments.max_bytes)
        print(json.dumps(outcome), flush=True)


if __name__ == "__main__":
    main()
