"""Prunes the channels of every keras.applications model, and checks each against its masked original.

    python benchmarks/structure_coverage.py [--flops 0.5] [--model GLOB] [--floatx float64] [--json FILE]

Weights and normalization statistics are random and inputs the smallest that an architecture takes: what is measured
is whether the graph is understood, not quality. A row holds if the FLOPs are within 5 % of the goal, the outputs
(before the softmax) within 1e-4 of the masked original's, relative to the largest of them, and if those differ
between images by more than 1 %. The rounding errors of float32 grow from layer to layer in the deepest of these random
networks: --floatx float64 tells them from an error of the surgery.
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import gc
import inspect
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras  # noqa: E402
import numpy as np  # noqa: E402

from tfbig import PruneChannels  # noqa: E402
from tfbig.compression.structure.flops import flops  # noqa: E402
from tfbig.errors import TfbigError  # noqa: E402

TOLERANCE, CLOSE, ALIVE = 0.05, 1e-4, 0.01
SIDE = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}  # pixels; 32 for all others
COLUMNS = ("model", "MFLOPs", "share", "parameters", "prepare s", "error", "spread", "note")
HEADER = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


@dataclasses.dataclass(frozen=True)
class Row:
    """One model's figures; shares are of the original."""

    model: str
    mflops: float
    flops_share: float | None = None
    params_share: float | None = None
    prepare_s: float | None = None
    error: float | None = None  # Largest difference from the masked original, over its largest output.
    spread: float = 0.0  # Largest difference between outputs for different images, over the same.
    reason: str = ""

    def holds(self, goal: float) -> bool:
        """Whether the goal was met and the outputs agree, and say something about the inputs."""
        if self.flops_share is None or self.error is None:
            return False
        return abs(self.flops_share / goal - 1) <= TOLERANCE and self.error <= CLOSE < ALIVE <= self.spread

    def __str__(self) -> str:
        if self.flops_share is None:
            return f"| {self.model} | {self.mflops:,.1f} | | | | | | refused: {self.reason} |"
        return (
            f"| {self.model} | {self.mflops:,.1f} | {self.flops_share:.4f} | {self.params_share:.3f} | "
            f"{self.prepare_s:.1f} | {self.error:.1e} | {self.spread:.2f} | {self.reason} |"
        )


def main() -> int:
    """Measures model after model, prints each row when it is there, and returns 1 if any does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flops", type=float, default=0.5, help="share of the FLOPs to keep")
    parser.add_argument("--model", default="*", help="only models of this name or glob")
    parser.add_argument(
        "--floatx", choices=("float32", "float64"), default="float32", help="what the models compute in"
    )
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    keras.config.set_floatx(options.floatx)
    rows: list[Row] = []
    print(HEADER)
    for name in _names(options.model):
        rows.append(measure(name, options.flops))
        print(rows[-1], flush=True)
        keras.backend.clear_session()
        gc.collect()
        if options.json:
            found = [
                dataclasses.asdict(row) | {"holds": row.holds(options.flops), "floatx": options.floatx} for row in rows
            ]
            Path(options.json).write_text(json.dumps(found, indent=1))
    held = sum(row.holds(options.flops) for row in rows)
    print(f"\n{held} of {len(rows)} models come to {options.flops:g} of their FLOPs within {TOLERANCE:.0%}.")
    return int(held < len(rows))


def measure(name: str, goal: float) -> Row:
    """Prunes one model and compares it with its masked original."""
    model = _random_model(name)
    total = flops(model)
    start = time.perf_counter()
    try:
        plan = PruneChannels(flops=goal).plan(model)
        smaller = plan.apply(model)
    except TfbigError as error:
        return Row(name, total / 1e6, reason=str(error))
    seconds = time.perf_counter() - start
    images = _images(model, samples=4, seed=1)
    result = np.asarray(smaller(images, training=False))
    expected = np.asarray(plan.mask(model)(images, training=False))
    error = float(np.abs(result - expected).max() / np.abs(expected).max())
    spread = float((expected.max(axis=0) - expected.min(axis=0)).max() / np.abs(expected).max())
    shares = flops(smaller) / total, smaller.count_params() / model.count_params()
    return Row(name, total / 1e6, *shares, seconds, error, spread, ", ".join(plan.dependencies.not_understood))


def _names(pattern: str) -> list[str]:
    builders = inspect.getmembers(keras.applications, inspect.isfunction)
    return [name for name, _ in builders if fnmatch.fnmatchcase(name, pattern)]


def _random_model(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    side = SIDE.get(name, 32)
    build = getattr(keras.applications, name)
    model = build(weights=None, input_shape=(side, side, 3), classifier_activation=None)
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1 and weight.name in ("gamma", "beta", "bias"):
            low, high = (0.5, 1.5) if weight.name == "gamma" else (-0.2, 0.2)
            weight.assign(generator.uniform(low, high, weight.shape))
    if not any("normalization" in type(layer).__name__.lower() for layer in model._flatten_layers()):
        _keep_signal(model)
    _random_statistics(model, generator)
    return model


def _keep_signal(model: keras.Model) -> None:
    """He's scale for Glorot's: without normalization the ReLUs would halve the signal in every layer."""
    for weight in model.weights:
        if weight.name == "kernel":
            weight.assign(weight * 2**0.5)


def _random_statistics(model: keras.Model, generator: np.random.Generator) -> None:
    """Moving statistics near those of random images: with any others, signals die out on the way down."""
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    model(_images(model, samples=8, seed=2), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        for statistic in (norm.moving_mean, norm.moving_variance):
            statistic.assign(statistic * generator.uniform(0.7, 1.3, statistic.shape))


def _images(model: keras.Model, *, samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 255, (samples, *model.input_shape[1:])).astype("float32")


if __name__ == "__main__":
    sys.exit(main())
