"""A small network learns from a large one, on scikit-learn's handwritten digits: in three lines, and as a technique.

    python examples/distill.py [--quick]

Only 100 images have labels for the student, a perceptron with one hidden layer of 12 units. The teacher, far larger,
has seen the labels of all; what it says of the other images teaches the student more than the few labels do.
Prints the accuracy of each on the test split.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

import tfbig

LABELS = 100
LOSS = "sparse_categorical_crossentropy"


def distill(teacher: keras.Model, student: keras.Model, loader: tf.data.Dataset, epochs: int) -> None:
    """The function of the literature (Hinton et al., 2015): `student` learns from `teacher`, in place."""
    distiller = tfbig.Distiller(teacher, student, temperature=2.0, alpha=1.0)
    distiller.compile(keras.optimizers.Adam(0.01), LOSS)
    distiller.fit(loader, epochs=epochs, verbose=0, shuffle=False)


def main(quick: bool) -> dict[str, float]:
    """Trains teacher and students; returns the test accuracy of each."""
    keras.utils.set_random_seed(0)
    data = tfbig.data.load("digits")
    epochs = 12 if quick else 40
    teacher = tfbig.models.build("mlp", input_shape=data.spec.input_shape, units=(256, 256), dropout=0.3)
    learn(teacher, data.train, epochs)
    blank = tfbig.models.build("mlp", input_shape=data.spec.input_shape, units=(12,))

    alone = keras.models.clone_model(blank)
    few = tf.data.Dataset.from_tensor_slices(next(iter(data.train.unbatch().batch(LABELS))))
    labelled = few.repeat(data.spec.samples["train"] // LABELS).batch(32)
    learn(alone, labelled, epochs)

    taught = keras.models.clone_model(blank)
    distill(teacher, taught, data.train, epochs)

    # The same as a technique: the student that is given stays as it is, and the teacher answers each image once.
    technique = tfbig.Distill(teacher=teacher, temperature=2.0, alpha=1.0)
    prepared = technique.prepare(blank)
    learn(prepared, technique.cache(data.train), epochs)
    finished = technique.finish(prepared)

    models = {"teacher": teacher, "student alone": alone, "student, distilled": taught, "student, Distill": finished}
    return {name: report(name, model, data.test) for name, model in models.items()}


def learn(model: keras.Model, dataset: tf.data.Dataset, epochs: int) -> None:
    model.compile(keras.optimizers.Adam(0.01), LOSS)
    model.fit(dataset, epochs=epochs, verbose=0, shuffle=False)


def report(name: str, model: keras.Model, test: tf.data.Dataset) -> float:
    model.compile(loss=LOSS, metrics=["accuracy"])
    accuracy = model.evaluate(test, verbose=0)[1]
    print(f"{name:20s} {model.count_params():7,d} parameters  accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs: under a minute")
    main(parser.parse_args().quick)
