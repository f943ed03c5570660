"""Your own pictures: a classifier for folders of photos, trained and compressed for a phone.

    python examples/own_photos.py FOLDER      one folder of pictures for each class, such as cats/ and dogs/
    python examples/own_photos.py --quick     a tiny folder of drawn pictures instead

Prints a table of what was measured on each saved file. The files are in saved_models/own_photos.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image, ImageDraw

import tfbig


def main(folder: str | None, quick: bool) -> tfbig.Result:
    """Trains, compresses and saves; returns the result."""
    folder = folder or str(draw_pictures(Path("saved_models/drawn_pictures")))
    data = tfbig.data.load(f"images:{folder}", image_size=32 if quick else 96, batch_size=8 if quick else 32)
    print(f"{data.spec.samples['train']} pictures to learn from: {', '.join(data.spec.class_names)}")

    keras.utils.set_random_seed(0)
    model = build_model(data.spec.input_shape, len(data.spec.class_names))
    tfbig.training.fit(model, data, epochs=20 if quick else 30, learning_rate=5e-3, schedule="cosine", verbose=2)

    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    result = tfbig.compress(model, "int8", **splits, epochs=3 if quick else 10, verbose=2)
    print(result)
    return result.save("saved_models/own_photos", overwrite=True)


def build_model(input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """A few convolutions; the first layer brings the pictures, which come as numbers from 0 to 255, to [0, 1]."""
    layers = keras.layers
    inputs = x = keras.Input(input_shape)
    x = layers.Rescaling(1 / 255)(x)
    for filters in (8, 16, 32):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes, activation="softmax")(x), name="photos")


def draw_pictures(folder: Path, each: int = 100, size: int = 40) -> Path:
    """Draws circles and squares in random colours and places: two classes of pictures."""
    rng = np.random.default_rng(0)
    for name in ("circles", "squares"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            picture = Image.new("RGB", (size, size), tuple(rng.integers(0, 100, 3).tolist()))
            left, top = rng.integers(2, size // 3, 2)
            box = [int(left), int(top), int(left) + size // 2, int(top) + size // 2]
            colour = tuple(rng.integers(150, 256, 3).tolist())
            draw = ImageDraw.Draw(picture)
            (draw.ellipse if name == "circles" else draw.rectangle)(box, fill=colour)
            picture.save(folder / name / f"{number:03d}.jpg")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", nargs="?", help="one folder of pictures for each class")
    parser.add_argument("--quick", action="store_true", help="small pictures and few epochs: under a minute")
    arguments = parser.parse_args()
    if not (arguments.folder or arguments.quick):
        parser.error("name a FOLDER with one folder of pictures for each class, or draw some with --quick")
    main(arguments.folder, arguments.quick)
