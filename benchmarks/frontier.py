"""Quality against bytes, multiplications and latency: every named recipe, stock int8, and TFMOT's own best.

    KERAS_HOME=folder/with/datasets python benchmarks/frontier.py [--seeds 0 1 2] [--epochs 5] [--out FOLDER]
    python benchmarks/frontier.py --photos FOLDER [--seeds 0 1 2]

Fashion-MNIST and a ResNet-8, or a folder of photos and a MobileNetV2 of width 0.35. Each recipe is run by
`tfbig.compress`, as a user runs it; each figure is measured on the saved file. Latency is one thread, timed in turns
with the float file and with the stock int8 file of the same seed, and given as the ratio. Prints one JSON line per
file, then a table of medians over the seeds, and draws it as SVG into the folder.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras

import tfbig
from tfbig.measurement.compare import compare
from tfbig.report.charts import Point, scatter

TFMOT = {
    "TFMOT prune 80 % + PQAT": [tfbig.Prune(sparsity=0.8, engine="tfmot"), tfbig.Quantize("int8", engine="tfmot")],
    "TFMOT cluster 16 + CQAT": [tfbig.Cluster(clusters=16, engine="tfmot"), tfbig.Quantize("int8", engine="tfmot")],
}
RECIPES: dict[str, Any] = {name: name for name in tfbig.Recipe.names()} | TFMOT


FLOAT_RATE, RATE = 4e-3, 2e-3
STYLE = """<style>
text { font: 13px sans-serif; fill: #6e7781 } .grid { stroke: #8c959f; stroke-opacity: 0.3 } .point { fill: #6e7781 }
.label { font-weight: bold } .accent { fill: #1f6feb }
</style>"""


def rows(data: Any, network: Any, seed: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Trains the float model of a seed and yields the figures of every file that is made of it."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, started = Path(scratch), time.monotonic()
        model = trained(data, network, seed, options)
        files = {"float": tfbig.export(model, folder / "float.tflite")}
        files["stock int8"] = tfbig.export(model, folder / "stock.tflite", quantize="int8", calibration=data.train)
        for name in files:
            yield row(name, seed, files, name, data, time.monotonic() - started)
        for name in options.recipes:
            started = time.monotonic()
            splits = {"train": data.train, "validation": data.validation, "test": data.test}
            settings = {"epochs": options.epochs, "learning_rate": RATE, "seed": seed, "verbose": 0}
            result = tfbig.compress(model, RECIPES.get(name, name), **splits, **settings)
            files[name] = Path(shutil.copy(result.file, folder / f"{len(files)}.tflite"))
            yield row(name, seed, files, name, data, time.monotonic() - started)


def trained(data: Any, network: Any, seed: int, options: argparse.Namespace) -> keras.Model:
    """The float model; a file in the output folder keeps it for the next run."""
    kept = options.out / f"float-{network.__name__}-{seed}.keras"
    if kept.exists():
        return tfbig.load(kept)
    keras.utils.set_random_seed(seed)
    model = network(data)
    settings = {"optimizer": "adam", "learning_rate": FLOAT_RATE, "schedule": "cosine", "verbose": 0}
    tfbig.training.fit(model, data.train, epochs=options.float_epochs, **settings)
    tfbig.export(model, kept)
    return model


def row(name: str, seed: int, files: dict[str, Path], key: str, data: Any, seconds: float) -> dict[str, Any]:
    found = tfbig.measure(files[key], data, latency=False)
    speed = {f"speedup over {other}": compare(files[other], files[key]).speedup for other in ("float", "stock int8")}
    return {
        "name": name,
        "seed": seed,
        "quality": round(100 * (found.quality or 0), 2),
        "bytes": found.bytes,
        "gzip_bytes": found.gzip_bytes,
        **{text: round(ratio, 2) for text, ratio in speed.items()},
        "seconds": round(seconds, 1),
    }


def resnet8(data: Any) -> keras.Model:
    return tfbig.models.build("resnet", depth=8, input_shape=data.spec.input_shape, classes=10, weight_decay=0.0)


def mobilenet_v2(data: Any) -> keras.Model:
    """MobileNetV2 of width 0.35, with the pixels' way to [-1, 1] inside."""
    inputs = keras.Input(data.spec.input_shape)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    core = keras.applications.MobileNetV2(x.shape[1:], alpha=0.35, weights=None, include_top=False, pooling="avg")
    for layer in core.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9  # An epoch of few steps moves it far enough; 0.999 takes thousands.
    outputs = keras.layers.Dense(data.spec.classes, activation="softmax")(core(x))
    return keras.Model(inputs, outputs, name="mobilenet_v2_035")


def fashion_mnist(batch_size: int) -> Any:
    (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    pairs = [(x[..., None].astype("float32") / 255, y) for x, y in ((x_train, y_train), (x_test, y_test))]
    splits = SimpleNamespace(train=pairs[0], validation=None, test=pairs[1])
    return tfbig.data.load(splits, batch_size=batch_size, seed=0)


def photos(folder: str) -> Any:
    """Photos of 96 pixels; in training each of them is moved, zoomed and flipped anew in every epoch."""
    data = tfbig.data.load(f"images:{folder}", image_size=96)
    layers = tfbig.data.augmentation(shift=0.1, zoom=0.2, flip=True)
    return dataclasses.replace(data, train=data.train.map(lambda x, y: (layers(x, training=True), y)))


def medians(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each name, in the order of appearance, of medians over the seeds."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for entry in found:
        groups.setdefault(entry["name"], []).append(entry)
    figures = [key for key in found[0] if key not in ("name", "seed")]
    return [{"name": n, **{k: statistics.median(e[k] for e in group) for k in figures}} for n, group in groups.items()]


def table(found: list[dict[str, Any]]) -> str:
    """The medians in Markdown."""
    lines = [
        "| recipe | accuracy | bytes | gzip bytes | speed of float | speed of stock int8 |",
        "|---|---|---|---|---|---|",
    ]
    for e in medians(found):
        speeds = f"{e['speedup over float']:.2f}x | {e['speedup over stock int8']:.2f}x"
        lines.append(f"| {e['name']} | {e['quality']:.2f} % | {e['bytes']:,.0f} | {e['gzip_bytes']:,.0f} | {speeds} |")
    return "\n".join(lines)


def plot(found: list[dict[str, Any]]) -> str:
    """Quality over gzipped bytes as an SVG file, readable on light and on dark; the named recipes are marked."""
    points = [
        Point(e["name"], e["gzip_bytes"], e["quality"], e["name"] in tfbig.Recipe.names()) for e in medians(found)
    ]
    drawn = scatter(
        points,
        titles=("gzip bytes", "accuracy"),
        texts=(lambda x: f"{x:,.0f}", lambda y: f"{y:.1f} %"),
        size=(760, 420),
        name="Accuracy over gzipped bytes of the LiteRT file",
    )
    opening, rest = str(drawn).split(">", 1)
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{STYLE}{rest}\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", help="a folder of photos, with one folder for each class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--float-epochs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=5, help="of every stage")
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="names or files; default all, and TFMOT's")
    parser.add_argument("--out", type=Path, default=Path("saved_models/frontier"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.photos:
        data, network = photos(options.photos), mobilenet_v2
    else:
        data, network = fashion_mnist(batch_size=128), resnet8
    found = []
    for seed in options.seeds:
        for entry in rows(data, network, seed, options):
            found.append(entry)
            print(json.dumps(entry), flush=True)
            (options.out / f"{network.__name__}.json").write_text(json.dumps(found, indent=1))
    (options.out / f"{network.__name__}.svg").write_text(plot(found))
    print(f"\n{table(found)}")


if __name__ == "__main__":
    main()
