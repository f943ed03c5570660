"""A model in, small measured files out: trains a small network on handwritten digits, prunes it, and quantizes it.

    python examples/quickstart.py [--quick]

Prints a table of what was measured on each saved file. The files are in saved_models/quickstart, with a report.html.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import tfbig


def main(quick: bool) -> tfbig.Result:
    """Trains, compresses and saves; returns the result."""
    data = tfbig.data.load("digits")
    model = train_a_model(data, epochs=5 if quick else 15)

    result = tfbig.compress(
        model,
        [tfbig.Prune(sparsity=0.8), tfbig.Quantize("int8")],
        train=data.train,
        validation=data.validation,
        test=data.test,
        epochs=5 if quick else 10,
        verbose=2,
    )
    print(result)
    return result.save("saved_models/quickstart", overwrite=True)


def train_a_model(data: tfbig.data.Data, epochs: int) -> keras.Model:
    """Stands for your own model: `tfbig.load("my_model.keras")`, or one that you have built with Keras."""
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("resnet", input_shape=data.spec.input_shape, classes=data.spec.classes)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(data.train, validation_data=data.validation, epochs=epochs, shuffle=False, verbose=2)
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs: under a minute")
    main(parser.parse_args().quick)
