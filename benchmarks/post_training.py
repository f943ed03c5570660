"""Quantization after training: TensorFlow's converter beside tfbig's default and its repairs, on nets that learned.

    KERAS_HOME=folder/with/datasets python benchmarks/post_training.py --messages SMSSpamCollection --work DIR

Prints one JSON line for each net, seed and way, and tables of means over the seeds at the end. All ways start from the
same float model and see the same 128 training examples; quality is that of the saved file on the test split, which
nothing else sees. `noise` is the power of the difference from the float model's outputs, divided by the outputs' own:
it tells ways apart long before the accuracy does.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

import tfbig
from benchmarks.zoo.trained import NETS, data_of
from tfbig.exporters.post_training import repairs
from tfbig.measurement.litert import run_litert

SAMPLES, LEARNING_RATE = 128, 3e-3
STOCK = "TensorFlow int8"
WAYS: dict[str, Any] = {
    STOCK: None,
    "int8": "int8",
    "int8, all repairs": tfbig.PostTraining("int8", repairs="all"),
    "int4": "int4",
    **{f"int4, {name}": tfbig.PostTraining("int4", repairs=name) for name in repairs.names()},
    "int4, all repairs": tfbig.PostTraining("int4", repairs="all"),
}


def rows(name: str, seed: int, messages: Path | None, work: Path) -> Iterator[dict[str, Any]]:
    """The float net, and each way to quantize it."""
    data = data_of(NETS[name].data, messages, seed)
    model = trained(name, seed, data, work)
    x, y = (np.concatenate(parts) for parts in zip(*data.test.as_numpy_iterator(), strict=True))
    calibration = np.concatenate([batch for batch, _ in data.train.take(4).as_numpy_iterator()])[:SAMPLES]
    wanted = model.predict(x, verbose=0)
    yield {"net": name, "seed": seed, "way": "float", "accuracy": _accuracy(wanted, y)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        for way, quantize in WAYS.items():
            if quantize is None:
                path.write_bytes(by_tensorflow(model, calibration))
            else:
                tfbig.export(model, path, quantize=quantize, calibration=calibration)
            outputs = run_litert(path, [x])[0]
            noise = float(np.sum(np.square(outputs - wanted)) / np.sum(np.square(wanted)))
            found = {"accuracy": _accuracy(outputs, y), "noise": noise, "bytes": os.path.getsize(path)}
            yield {"net": name, "seed": seed, "way": way, **found}


def trained(name: str, seed: int, data: Any, work: Path) -> keras.Model:
    """The net after training; `work` keeps it for the next run."""
    path = work / f"{name}-{seed}.keras"
    if path.exists():
        return tfbig.load(path)
    keras.utils.set_random_seed(seed)
    model = NETS[name].build()
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # Training is short.
    options = {"optimizer": "adam", "schedule": "cosine", "learning_rate": LEARNING_RATE, "verbose": 0}
    tfbig.training.fit(model, data.train, epochs=NETS[name].epochs, **options)
    return tfbig.load(tfbig.export(model, path))


def by_tensorflow(model: keras.Model, calibration: np.ndarray) -> bytes:
    """The file of TensorFlow's own converter, as its guide says: integers wherever there are kernels, batches of 1."""
    function = tf.function(lambda x: model(x, training=False))
    concrete = function.get_concrete_function(tf.TensorSpec((1, *calibration.shape[1:]), calibration.dtype))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([convert_variables_to_constants_v2(concrete)])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None]] for sample in calibration)
    return bytes(converter.convert())


def table(found: list[dict[str, Any]], ways: list[str]) -> str:
    """One line for each net, means over its seeds: accuracy, noise in thousandths, and bytes of the file."""
    lines = [f"| net | seeds | {' | '.join(ways)} |", "|---" * (2 + len(ways)) + "|"]
    for net in dict.fromkeys(row["net"] for row in found):
        rows = [row for row in found if row["net"] == net]
        cells = [_cell([row for row in rows if row["way"] == way]) for way in ways]
        lines.append(f"| {net} | {len({row['seed'] for row in rows})} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    accuracy = f"{np.mean([row['accuracy'] for row in rows]):.2f} %"
    if "noise" not in rows[0]:
        return accuracy
    noise, size = (np.mean([row[key] for row in rows]) for key in ("noise", "bytes"))
    return f"{accuracy}, {1000 * noise:.2g}, {size:,.0f}"


def _accuracy(outputs: np.ndarray, labels: np.ndarray) -> float:
    return round(100 * float(np.mean(outputs.argmax(-1) == labels)), 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", nargs="*", choices=NETS, help="default all that have data")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--messages", type=Path, help="lines of label and text; without it nets of text are left out")
    parser.add_argument("--work", type=Path, help="folder that keeps the float models for the next run")
    parser.add_argument("--join", nargs="+", type=Path, default=[], help="printed lines of other runs, for the tables")
    arguments = parser.parse_args()
    names = (
        arguments.nets
        if arguments.nets is not None
        else [name for name, net in NETS.items() if arguments.messages or net.data != "messages"]
    )
    found = [json.loads(line) for file in arguments.join for line in file.read_text().splitlines() if line[:1] == "{"]
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            for seed in arguments.seeds:
                for row in rows(name, seed, arguments.messages, arguments.work or Path(scratch)):
                    found.append(row)
                    print(json.dumps(row), flush=True)
    for kind in ("int8", "int4"):
        ways = [way for way in WAYS if kind in way]
        print("\n" + table(found, ["float", *ways] if kind == "int8" else ways))


if __name__ == "__main__":
    main()
