"""Techniques inside your own training code: prepare, train with a loop of your own, finish, export, measure.

    python examples/by_hand.py [--quick]

What `prepare` returns is a Keras model like any other, so that nothing in the loop knows about compression. Prints the
figures of each file. The files are in saved_models/by_hand.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

import tfbig

OUT = Path("saved_models/by_hand")


def main(quick: bool) -> dict[str, tfbig.measurement.measure.Measurement]:
    """Returns what was measured on each file."""
    keras.utils.set_random_seed(0)
    data = tfbig.data.load("digits")
    epochs = 6 if quick else 20
    model = my_model()
    my_training(model, data.train, epochs)
    measured = {"float": export_and_measure(model, "float.tflite", data)}

    # Pruning: in a loop of your own, say in steps when to begin and when to have reached the goal.
    steps = epochs * len(data.train)
    pruning = tfbig.Prune(sparsity=0.8, begin=0, end=steps // 2)
    sparse = pruning.prepare(model)
    my_training(sparse, data.train, epochs)
    sparse = pruning.finish(sparse)
    measured["pruned"] = export_and_measure(sparse, "pruned.tflite", data)

    # Quantization: the zeros stay, and the ranges that training finds become those of the file.
    quantization = tfbig.Quantize("int8")
    integer = quantization.prepare(sparse)
    my_training(integer, data.train, epochs)
    integer = quantization.finish(integer)
    measured["pruned, int8"] = export_and_measure(integer, "int8.tflite", data)
    return measured


def my_model() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )


def my_training(model: keras.Model, dataset: tf.data.Dataset, epochs: int) -> None:
    """A training loop as people write them: gradients by hand, no `fit`, no callbacks."""
    schedule = keras.optimizers.schedules.CosineDecay(2e-3, epochs * len(dataset))
    optimizer, loss_function = keras.optimizers.Adam(schedule), keras.losses.SparseCategoricalCrossentropy()
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = loss_function(y, model(x, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    for epoch in range(epochs):
        losses = [float(step(x, y)) for x, y in dataset]
        print(f"epoch {epoch + 1} of {epochs}: loss {sum(losses) / len(losses):.4f}", flush=True)


def export_and_measure(model: keras.Model, name: str, data: tfbig.data.Data) -> tfbig.measurement.measure.Measurement:
    measured = tfbig.measure(tfbig.export(model, OUT / name), data)
    print(
        f"{name:14s} accuracy {measured.quality:.3f}  zeros {measured.zero_fraction:.1%}  {measured.bytes:,} bytes, "
        f"{measured.gzip_bytes:,} after gzip  {measured.latency_ms:.3f} ms",
        flush=True,
    )
    return measured


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs: under a minute")
    main(parser.parse_args().quick)
