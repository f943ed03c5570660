"""What distillation costs: time per training step over that of the student alone, interleaved in one process.

    python benchmarks/distillation.py [--rounds 9] [--steps 20] [--json FILE]

Prints one line for each way to train: its median step time, the median over the rounds of its time divided by
the student's in the same round (with the lowest and the highest), and the same in CPU time, which other work
on the machine disturbs less. "cached" is what epochs after the first cost with `Distill.cache`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import tfbig

BATCH = 128
IMAGE = (28, 28, 1)
ALONE = "student alone"
LINE = "{way:32s} {ms_per_step:8.2f} ms  {ratio:5.2f} ({lowest:.2f} to {highest:.2f})  CPU {cpu_ratio:5.2f}"

Way = tuple[keras.Model, tf.data.Dataset]


def main() -> None:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        ways = _ways(_data(arguments.steps), Path(folder))
        for model, dataset in ways.values():
            model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
            model.fit(dataset, verbose=0, shuffle=False)  # Traces, and fills the caches.
        rounds = [_round(ways, arguments.steps) for _ in range(arguments.rounds)]
    rows = [_row(name, rounds) for name in ways]
    for row in rows:
        print(LINE.format(**row))
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


def _ways(data: tf.data.Dataset, folder: Path) -> dict[str, Way]:
    """The ways to train one student, a ResNet-8; its teacher, a ResNet-20 of double width, does ten times the work."""
    student = tfbig.models.build("resnet", input_shape=IMAGE, depth=8)
    teacher = tfbig.models.build("resnet", input_shape=IMAGE, depth=20, width=2.0)
    distill = tfbig.Distill(teacher=teacher)
    return {
        ALONE: (keras.models.clone_model(student), data),
        "distilled": (distill.prepare(student), data),
        "distilled, cached in memory": (distill.prepare(student), distill.cache(data)),
        "distilled, cached on disk": (distill.prepare(student), distill.cache(data, folder / "answers")),
    }


def _round(ways: dict[str, Way], steps: int) -> dict[str, np.ndarray]:
    """Seconds and CPU seconds per step of each way, one after the other."""
    return {name: _seconds(*way) / steps for name, way in ways.items()}


def _seconds(model: keras.Model, dataset: tf.data.Dataset) -> np.ndarray:
    start = time.perf_counter(), time.process_time()
    model.fit(dataset, verbose=0, shuffle=False)
    return np.array([time.perf_counter() - start[0], time.process_time() - start[1]])


def _row(name: str, rounds: list[dict[str, np.ndarray]]) -> dict[str, float | str]:
    ratios = np.array([seconds[name] / seconds[ALONE] for seconds in rounds])
    return {
        "way": name,
        "ms_per_step": 1000 * statistics.median(seconds[name][0] for seconds in rounds),
        "ratio": float(np.median(ratios[:, 0])),
        "lowest": float(ratios[:, 0].min()),
        "highest": float(ratios[:, 0].max()),
        "cpu_ratio": float(np.median(ratios[:, 1])),
    }


def _data(batches: int) -> tf.data.Dataset:
    """Random images, shuffled anew in each epoch; their values do not matter for the time."""
    generator = np.random.default_rng(0)
    x = generator.random((batches * BATCH, *IMAGE), dtype=np.float32)
    y = generator.integers(0, 10, len(x))
    return tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).batch(BATCH).prefetch(tf.data.AUTOTUNE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9, help="how often each way trains one epoch")
    parser.add_argument("--steps", type=int, default=20, help="steps in an epoch")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
