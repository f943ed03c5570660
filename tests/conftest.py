"""What tests of several folders share: a few digits, and a small network that has learned them."""

from __future__ import annotations

import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

_LONGEST = ("examples", "tuning", "cli", "training")  # Folders whose tests train, each for a minute or so.


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that at the end no worker is left alone with one."""
    items.sort(key=lambda item: not set(_LONGEST) & set(item.path.parts))


@pytest.fixture(scope="session")
def digits_arrays() -> dict[str, np.ndarray]:
    """480 handwritten digits, `(samples, 8, 8, 1)` in [0, 1], as the arrays of an `.npz`."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = (images.reshape(-1, 8, 8, 1) / 16).astype("float32")
    return {"x_train": x[:320], "y_train": labels[:320], "x_test": x[320:480], "y_test": labels[320:480]}


@pytest.fixture(scope="session")
def digits_file(digits_arrays, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    np.savez(path, **digits_arrays)
    return path


@pytest.fixture(scope="session")
def fresh_digits(digits_file) -> Callable:
    """Loads the digits anew: data whose order has not moved on yet."""
    import tfbig

    return lambda: tfbig.data.load(str(digits_file), batch_size=32)


@pytest.fixture(scope="session")
def small_model(fresh_digits):
    """A residual network of two convolutions with about 80 % accuracy; tests must leave it as it is."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    stem = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(inputs)
    stem = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(stem))
    y = layers.Conv2D(8, 3, padding="same", name="body")(stem)
    y = layers.MaxPooling2D(name="pool")(layers.ReLU(name="add_relu")(layers.Add(name="add")([stem, y])))
    y = layers.Dropout(0.1, name="dropout")(layers.Flatten(name="flatten")(y))
    model = keras.Model(inputs, layers.Dense(10, activation="softmax", name="classifier")(y), name="small")
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(fresh_digits().train, epochs=6, verbose=0, shuffle=False)
    return model


@pytest.fixture(scope="session")
def model_file(small_model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.keras"
    small_model.save(path)
    return path
