"""A small network learns from a large one, on scikit-learn's handwritten digits: in three lines, and as a
technique.

    python examples/distill.py [--quick]

The student is a perceptron with one hidden layer of 12 units; the teacher is a residual network. Prints the
accuracy of each on the test split.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import tensorflow as tf

import tfbig

LEARNING_RATE = 3e-3


def distill(teacher: keras.Model, student: keras.Model, loader: tf.data.Dataset, epochs: int = 1) -> None:
    """The function of the literature (Hinton et al., 2015): `student` learns from labels and `teacher`, in place."""
    distiller = tfbig.Distiller(teacher, student, temperature=4.0, alpha=0.7)
    distiller.compile(keras.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy")
    distiller.fit(loader, epochs=epochs, verbose=0, shuffle=False)


def main(quick: bool) -> dict[str, float]:
    """Trains teacher and students; returns the test accuracy of each."""
    keras.utils.set_random_seed(0)
    data = tfbig.data.load("digits")
    epochs = 6 if quick else 30
    teacher = tfbig.models.build("resnet", input_shape=data.spec.input_shape)
    learn(teacher, data.train, epochs)
    blank = tfbig.models.build("mlp", input_shape=data.spec.input_shape, units=(12,))

    alone = keras.models.clone_model(blank)
    learn(alone, data.train, epochs)

    taught = keras.models.clone_model(blank)
    distill(teacher, taught, data.train, epochs)

    # The same as a technique: the student given is not touched, and the teacher's answers are computed only once.
    technique = tfbig.Distill(teacher=teacher, temperature=4.0, alpha=0.7)
    prepared = technique.prepare(blank)
    learn(prepared, technique.cache(data.train), epochs)
    finished = technique.finish(prepared)

    models = {"teacher": teacher, "student alone": alone, "student, distilled": taught, "student, Distill": finished}
    return {name: report(name, model, data.test) for name, model in models.items()}


def learn(model: keras.Model, dataset: tf.data.Dataset, epochs: int) -> None:
    model.compile(keras.optimizers.Adam(LEARNING_RATE), "sparse_categorical_crossentropy")
    model.fit(dataset, epochs=epochs, verbose=0, shuffle=False)


def report(name: str, model: keras.Model, test: tf.data.Dataset) -> float:
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    accuracy = model.evaluate(test, verbose=0)[1]
    print(f"{name:20s} {model.count_params():7,d} parameters  accuracy {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer epochs: under a minute")
    main(parser.parse_args().quick)
