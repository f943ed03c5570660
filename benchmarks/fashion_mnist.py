"""ResNet-8 on Fashion-MNIST: quality and bytes of the LiteRT file after each kind of compression.

    KERAS_HOME=folder/with/datasets python benchmarks/fashion_mnist.py [--seed 0] [--markdown]

Prints one JSON line per row. The protocol is Adam with cosine decay, batches of 128: 8 epochs in float;
quantization-aware training 3; pruning 5 and clustering 3, each followed by 3 of quantization-aware training that
keeps zeros and clusters; "both" clusters the model that is pruned to 80 %. Each figure is measured on the saved file,
quality on the 10,000 test images, which nothing else sees.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np

import tfbig

FLOAT_EPOCHS, PRUNE_EPOCHS, EPOCHS = 8, 5, 3
FLOAT_RATE, COMPRESSED_RATE = 4e-3, 2e-3
ROWS = ("float", "qat", "prune80", "both", "prune90", "cluster")
QAT = tfbig.Quantize("int8")


def rows(seed: int, work: Path, only: list[str]) -> Iterator[dict[str, Any]]:
    """Trains and compresses; yields each row as soon as it is measured."""
    (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    splits = SimpleNamespace(train=_pair(x_train, y_train), validation=None, test=_pair(x_test, y_test))
    data = tfbig.data.load(splits, batch_size=128, seed=seed)
    bench = Bench(data, seed)
    model = bench.float_model(work / f"float-{seed}.keras")
    if "float" in only:
        yield bench.row("float", model)
        yield bench.row("stock post-training int8", model, quantize="int8", calibration=data.train)
    if "qat" in only:
        yield bench.row("QAT int8", bench.compressed(model, QAT, EPOCHS))
    for sparsity in (0.8, 0.9):
        if f"prune{sparsity * 100:.0f}" in only or (sparsity == 0.8 and "both" in only):
            pruned = bench.compressed(model, tfbig.Prune(sparsity=sparsity), PRUNE_EPOCHS)
            yield bench.row(f"prune {sparsity:.0%}, float", pruned)
            yield bench.row(f"prune {sparsity:.0%} + QAT int8", bench.compressed(pruned, QAT, EPOCHS))
            if sparsity == 0.8 and "both" in only:
                both = bench.compressed(pruned, tfbig.Cluster(clusters=16), EPOCHS)
                yield bench.row("prune 80% + cluster 16 + QAT int8", bench.compressed(both, QAT, EPOCHS))
    if "cluster" in only:
        clustered = bench.compressed(model, tfbig.Cluster(clusters=16, entropy_penalty=0.03), EPOCHS)
        yield bench.row("cluster 16, float", clustered)
        yield bench.row("cluster 16 + QAT int8", bench.compressed(clustered, QAT, EPOCHS))


class Bench:
    """Trains by one protocol and measures files."""

    def __init__(self, data: Any, seed: int):
        self.data, self.seed, self.started = data, seed, time.monotonic()

    def float_model(self, path: Path) -> keras.Model:
        """The trained float model; `path` keeps it, so that rows can be run one by one."""
        if path.exists():
            return tfbig.load(path)
        keras.utils.set_random_seed(self.seed)
        model = tfbig.models.build("resnet", depth=8, input_shape=(28, 28, 1), classes=10, weight_decay=0.0)
        self.train(model, FLOAT_EPOCHS, FLOAT_RATE)
        tfbig.export(model, path)
        return model

    def train(self, model: keras.Model, epochs: int, learning_rate: float) -> None:
        tfbig.training.fit(
            model,
            self.data.train,
            epochs=epochs,
            optimizer="adam",
            schedule="cosine",
            learning_rate=learning_rate,
            verbose=0,
        )

    def compressed(self, model: keras.Model, technique: Any, epochs: int) -> keras.Model:
        keras.utils.set_random_seed(self.seed)
        prepared = technique.prepare(model)
        self.train(prepared, epochs, COMPRESSED_RATE)
        return technique.finish(prepared)

    def row(self, stage: str, model: keras.Model, **options: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = tfbig.export(model, Path(folder) / "model.tflite", **options)
            found = tfbig.measure(path, self.data)
        seconds, self.started = time.monotonic() - self.started, time.monotonic()
        return {
            "stage": stage,
            "accuracy": round(100 * (found.quality or 0), 2),
            "bytes": found.bytes,
            "gzip_bytes": found.gzip_bytes,
            "zeros": round(found.zero_fraction, 4),
            "latency_ms": found.latency_ms and round(found.latency_ms, 4),
            "seconds": round(seconds, 1),
        }


def _pair(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images[..., None].astype("float32") / 255, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), help="rows to run; default all")
    parser.add_argument("--work", type=Path, help="folder that keeps the float model for the next run")
    parser.add_argument("--markdown", action="store_true", help="print a table for the README at the end")
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for row in rows(arguments.seed, arguments.work or Path(scratch), arguments.only):
            found.append(row)
            print(json.dumps(row), flush=True)
    if arguments.markdown:
        print("\n| stage | accuracy | bytes | gzip bytes |\n|---|---|---|---|")
        for row in found:
            print(f"| {row['stage']} | {row['accuracy']:.2f} % | {row['bytes']:,} | {row['gzip_bytes']:,} |")


if __name__ == "__main__":
    main()
