"""The plain big model: a multilayer perceptron 1000 -> 2000 -> 1000, trained with everything that keeps work safe.

    python examples/train_big_mlp.py [--quick]

Handwritten digits of scikit-learn. The training warms up and then follows a cosine, clips gradients, averages the
weights, and writes a checkpoint after each epoch: kill it at any moment and start it again, and it goes on as if
nothing had happened. Checkpoints and logs (TensorBoard, CSV) are in saved_models/big_mlp. Prints the accuracy on the
test split, and that a second start has nothing left to do.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

import tfbig

FOLDER = Path("saved_models/big_mlp")


def main(quick: bool) -> float:
    """Trains, and returns the accuracy on the test split."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    model = train(epochs=3 if quick else 15)
    again = train(epochs=3 if quick else 15)
    same = all((a == b).all() for a, b in zip(model.get_weights(), again.get_weights(), strict=True))
    print(f"a second start found the training done, with the same weights: {same}")

    data = tfbig.data.load("digits")
    again.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    accuracy = again.evaluate(data.test, verbose=0)[1]
    print(f"{again.count_params():,} parameters  accuracy {accuracy:.3f}")
    return accuracy


def train(epochs: int) -> keras.Model:
    """Trains the model, or goes on where the last training stopped."""
    data = tfbig.data.load("digits")
    keras.utils.set_random_seed(0)
    model = tfbig.models.build("mlp", input_shape=data.spec.input_shape, units=(1000, 2000, 1000), dropout=0.2)
    tfbig.training.fit(
        model,
        data,
        epochs=epochs,
        optimizer="adamw",
        learning_rate=1e-3,
        schedule="cosine",
        warmup=0.1,
        clip_norm=1.0,
        ema=0.9,
        label_smoothing=0.05,
        checkpoint=FOLDER / "checkpoints",
        logs=FOLDER / "logs",
        verbose=2,
    )
    return model


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs: under a minute")
    main(parser.parse_args().quick)
