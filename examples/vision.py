"""Your own pictures: a classifier for folders of photos, trained and compressed for a phone.

    python examples/vision.py FOLDER               one folder of pictures for each class, such as cats/ and dogs/
    python examples/vision.py --quick              a tiny folder of drawn pictures instead
    python examples/vision.py FOLDER --architecture ResNet50 --weights imagenet      (or a file of weights)
    python examples/vision.py FOLDER --architecture trained.h5     another classifier, with new last layers
    python examples/vision.py predict photo.jpg saved_models/vision/model.tflite     (or model.keras)

Prints a table of what was measured on each saved file. The files are in saved_models/vision; each takes pictures as
numbers from 0 to 255, for what its network needs done to them is part of it, and carries the names of the classes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from PIL import Image, ImageDraw

import tfbig
from tfbig.data.image_files import read_image, readable
from tfbig.exporters.associated_files import read_associated_files
from tfbig.measurement.subject import subject_of

OUT = Path("saved_models/vision")


def main(given: argparse.Namespace) -> tfbig.Result:
    """Trains, compresses and saves; returns the result."""
    folder = given.folder or str(draw_pictures(Path("saved_models/drawn_pictures")))
    size = given.image_size or (32 if given.quick else 96)
    data = tfbig.data.load(f"images:{folder}", image_size=size, batch_size=8 if given.quick else 32)
    names = data.spec.class_names
    print(f"{data.spec.samples['train']} pictures to learn from: {', '.join(names)}", flush=True)

    keras.utils.set_random_seed(0)
    model = build_model(given.architecture, given.weights, data.spec.input_shape, len(names))
    augment = tfbig.data.augmentation(rotation=10, shift=0.1, zoom=0.1, flip=True)
    train = data.train.map(lambda x, y: (augment(x, training=True), y))
    splits = {"train": train, "validation": data.validation, "test": data.test}
    tfbig.training.fit(
        model,
        train,
        validation_data=data.validation,
        epochs=given.epochs or (10 if given.quick else 40),
        learning_rate=given.learning_rate or (5e-3 if given.quick else 2e-3),
        schedule="cosine",
        warmup=0.05,
        verbose=2,
    )
    result = tfbig.compress(
        model,
        "int8",
        **splits,
        epochs=2 if given.quick else 5,
        learning_rate=1e-4,
        associated_files={"labels.txt": "\n".join(names), "image.json": json.dumps({"size": [size, size]})},
        verbose=2,
    )
    print(result)
    result = result.save(OUT, overwrite=True)
    photo = next(path for path in sorted(Path(folder).rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for file in (OUT / "model.keras", OUT / "model.tflite"):
        predict(photo, file)
    return result


def build_model(architecture: str, weights: str | None, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """The network behind the preprocessing that it wants, so that both go into the file."""
    if architecture in tfbig.models.BUILDERS:
        network = tfbig.models.build(architecture, input_shape=input_shape, classes=classes)
        return keras.Sequential([keras.Input(input_shape), keras.layers.Rescaling(1 / 255), network], name="vision")
    if Path(architecture).suffix:
        return continued(Path(architecture), input_shape, classes)
    body = tfbig.models.build(
        architecture, input_shape=input_shape, include_top=False, pooling="avg", weights=weights and str(weights)
    )
    prepare = sys.modules[getattr(keras.applications, architecture).__module__].preprocess_input
    inputs = keras.Input(input_shape)
    outputs = keras.layers.Dense(classes, activation="softmax", name="classes")(body(prepare(inputs)))
    return keras.Model(inputs, outputs, name="vision")


def continued(file: Path, input_shape: tuple[int, ...], classes: int) -> keras.Model:
    """A classifier from a file, for pixels from -1 to 1, with new sizes and a new layer behind its last pooling."""
    old = tfbig.load(file)
    pooling = [layer for layer in old.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    if not pooling:
        raise tfbig.errors.InvalidModel(
            f"`{file}` has no GlobalAveragePooling2D behind which classes could be learned."
        )
    body = keras.Model(old.inputs[0], pooling[-1].output)
    resized = keras.models.clone_model(body, input_tensors=keras.Input(input_shape))
    resized.set_weights(body.get_weights())
    inputs = keras.Input(input_shape)
    pixels = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    features = keras.layers.Flatten()(resized(pixels))
    outputs = keras.layers.Dense(classes, activation="softmax", name="classes")(features)
    return keras.Model(inputs, outputs, name="vision")


def predict(photo: Path, file: Path) -> None:
    """Prints the five likeliest classes of a photo, by a `.keras` or a `.tflite` file and what it carries."""
    inside = read_associated_files(file)
    if not {"labels.txt", "image.json"} <= set(inside):
        raise tfbig.errors.InvalidFile(f"`{file}` carries no labels.txt. Give a model that vision.py has saved.")
    if not Path(photo).is_file():
        raise tfbig.errors.InvalidFile(f"There is no photo `{photo}`. Check the path.")
    readable([str(photo)], corrupt="error")
    picture = read_image(str(photo), json.loads(inside["image.json"])["size"])
    (probabilities,) = subject_of(file).predict(picture.numpy()[None])
    print(f"{photo}, by {Path(file).name}:")
    names = inside["labels.txt"].split("\n")
    for label in np.argsort(-probabilities[0])[:5]:
        print(f"  {probabilities[0, label]:6.1%}  {names[label]}")


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


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], epilog="or: vision.py predict PHOTO")
    if sys.argv[1:2] == ["predict"]:
        parser.add_argument("predict")
        parser.add_argument("photo")
        parser.add_argument("model", nargs="?", default=OUT / "model.tflite", help="a .keras or .tflite of this script")
        return parser.parse_args()
    parser.add_argument("folder", nargs="?", help="one folder of pictures for each class")
    parser.add_argument("--quick", action="store_true", help="small pictures and few epochs: under a minute")
    parser.add_argument(
        "--architecture",
        default="resnet",
        help="resnet (default), mobilenet, one of Keras's, or a trained model's file",
    )
    parser.add_argument("--weights", help="of one of Keras's: imagenet, or a file without the top layer")
    parser.add_argument("--image-size", type=int, help="side in pixels (default 96; 32 with --quick)")
    parser.add_argument("--epochs", type=int, help="of the training before compression (default 40; 10 with --quick)")
    parser.add_argument("--learning-rate", type=float, help="default 2e-3; 1e-4 for weights that are trained already")
    given = parser.parse_args()
    if not (given.folder or given.quick):
        parser.error("name a FOLDER with one folder of pictures for each class, or draw some with --quick")
    if given.weights and (given.architecture in tfbig.models.BUILDERS or Path(given.architecture).suffix):
        parser.error("--weights are for one of Keras's architectures, such as --architecture ResNet50")
    if given.weights and not given.learning_rate:
        given.learning_rate = 1e-4
    return given


if __name__ == "__main__":
    given = arguments()
    try:
        predict(given.photo, given.model) if hasattr(given, "photo") else main(given)
    except tfbig.errors.TfbigError as error:
        sys.exit(f"vision.py: {error}")
