"""Trained networks in integers: the quantized Keras model beside its LiteRT file, on pictures that it can read.

    python benchmarks/trained.py --photos FOLDER FILE...

Random weights say little about rounding: noise and signal are alike in them. Here each FILE is a network that somebody
trained (`.keras`, `.h5`, `.hdf5`, of any age), for pictures in [-1, 1], colour or grey. It is prepared by
`Quantize("int8")`, trained for some steps towards its own answers on half of the photos, exported, and compared on 64
of the other half. Differences are in steps of the file's output, or of its logits where a softmax ends the network.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import tfbig  # noqa: E402
from benchmarks.parity import Parity, parity  # noqa: E402

SAMPLES = 64
COLUMNS = (
    "network",
    "layers",
    "steps, max / mean",
    "logits, max / mean",
    "same class",
    "same class as before",
    "float ops",
)


def row(file: Path, photos: list[Path], steps: int, batch: int) -> str:
    """The figures of one network, in Markdown."""
    model = tfbig.load(file)
    half = len(photos) // 2
    known, unknown = (pictures(part, model.input_shape) for part in (photos[: min(half, steps * batch)], photos[half:]))
    prepared = tfbig.Quantize("int8").prepare(model)
    prepared.compile(keras.optimizers.Adam(1e-5), "mse", jit_compile=False)
    prepared.fit(known, model.predict(known, verbose=0), batch_size=batch, verbose=0)
    finished = tfbig.Quantize("int8").finish(prepared)
    with tempfile.TemporaryDirectory() as folder:
        path = tfbig.export(finished, Path(folder) / "model.tflite")
        found, inside = parity(finished, path, [unknown[:SAMPLES]]), tfbig.inspect(path)
    before, now = (net.predict(unknown[:SAMPLES], verbose=0).argmax(-1) for net in (model, finished))
    layers = sum(bool(layer.weights) for layer in model._flatten_layers(include_self=False))
    cells = [file.name, layers, *_cells(found), f"{np.mean(before == now):.0%}", len(inside.float_ops)]
    return f"| {' | '.join(map(str, cells))} |"


def pictures(paths: list[Path], shape: tuple[int | None, ...]) -> np.ndarray:
    """Photos of the size and the channels that a network takes, in [-1, 1]."""
    height, width, channels = (size or 64 for size in shape[1:])
    opened = [Image.open(path).convert("L" if channels == 1 else "RGB").resize((width, height)) for path in paths]
    return (
        np.stack([np.asarray(picture, "float32") for picture in opened]).reshape(-1, height, width, channels) / 127.5
        - 1
    )


def _cells(found: Parity) -> list[str]:
    steps = f"{found.steps_max:.1f} / {found.steps_mean:.2f}"
    logits = "" if found.logits_max is None else f"{found.logits_max:.1f} / {found.logits_mean:.2f}"
    return [steps, logits, "" if found.decided is None else f"{found.decided:.0%}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--photos", type=Path, required=True, help="a folder of pictures, in folders or not")
    parser.add_argument("--steps", type=int, default=16, help="of training")
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    photos = sorted(path for path in options.photos.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    np.random.default_rng(0).shuffle(photos)
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for file in options.files:
        print(row(file, photos, options.steps, options.batch), flush=True)


if __name__ == "__main__":
    main()
