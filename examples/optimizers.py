"""Gradient descent, stochastic, and with mini-batches: one problem, three curves in one picture.

    python examples/optimizers.py [--quick] [--data SPEC]

All three take the same steps downhill; they differ in how many samples they look at before each. The model is
softmax regression: one layer, one minimum. The picture is saved_models/optimizers/curves.html; the best of the three
becomes an 8-bit file beside it, with the table and the report of every compression.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import tfbig
from tfbig.report.charts import curves
from tfbig.report.markup import element
from tfbig.report.style import STYLE

OUT = Path("saved_models/optimizers")


def main(spec: str, epochs: int) -> tfbig.Result:
    """Trains three times from the same weights, draws the curves and compresses the best."""
    data = tfbig.data.load(spec)
    samples = data.spec.samples["train"]
    keras.utils.set_random_seed(0)
    softmax = keras.layers.Dense(data.spec.classes, activation="softmax")
    start = keras.Sequential([keras.Input(data.spec.input_shape), keras.layers.Flatten(), softmax], name="optimizers")
    # Noise grows as fewer samples are averaged, and the step must shrink for it.
    ways = {"gradient descent": (samples, 0.5), "stochastic": (1, 0.01), "mini-batches of 32": (32, 0.1)}
    trained, losses = {}, {}
    for name, (batch_size, learning_rate) in ways.items():
        model, batches = keras.models.clone_model(start), tfbig.data.load(spec, batch_size=batch_size)
        model.set_weights(start.get_weights())
        history = tfbig.training.fit(
            model, batches, epochs=epochs, optimizer="sgd", learning_rate=learning_rate, verbose=0
        ).history
        trained[name], losses[name] = model, history["val_loss"]
        steps = epochs * len(batches.train)
        print(f"{name:20s} {steps:7,d} steps  loss {losses[name][-1]:.3f}", flush=True)
    best = min(losses, key=lambda name: losses[name][-1])
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    result = tfbig.compress(trained[best], [tfbig.Quantize("int8")], **splits, epochs=2, learning_rate=1e-3, verbose=2)
    print(result)
    result = result.save(OUT, overwrite=True)
    draw(losses, OUT / "curves.html")
    return result


def draw(losses: dict[str, list[float]], path: Path) -> None:
    """Writes the picture, as a page that any browser shows."""
    chart = curves(
        list(losses.items()), text=lambda loss: f"{loss:g}", size=(720, 420), name="validation loss by epoch"
    )
    marks = [element("span", element("i", class_=f"b{n}"), name) for n, name in enumerate(losses, start=1)]
    title = "Validation loss, epoch by epoch"
    page = element("body", element("h3", title), chart, element("p", *marks, class_="legend"))
    path.write_text(f"<!doctype html><title>{title}</title><style>{STYLE}</style>{page}", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="4 epochs instead of 20")
    parser.add_argument("--data", default="digits", help="as of tfbig.data.load (default digits)")
    given = parser.parse_args()
    try:
        main(given.data, 4 if given.quick else 20)
    except tfbig.errors.TfbigError as error:
        sys.exit(f"optimizers.py: {error}")
