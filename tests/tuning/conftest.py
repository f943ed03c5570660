"""A search that is small enough for tests, and what it found."""

from __future__ import annotations

import pytest

SPACE = {
    "blocks": 1.0,
    "channels": 1.0,
    "rank": 1.0,
    "clusters": 0,
    "distill": False,
    "exempt": 0,
    "sparsity": [0.0, 0.6],
}


@pytest.fixture(scope="session")
def search_options():
    """Four recipes at most, of one or two stages."""
    return {"space": {**SPACE, "bits": ["float32", "int8"]}, "trials": 3, "epochs": 1, "verbose": 0}


@pytest.fixture(scope="session")
def searched(small_model, fresh_digits, search_options, tmp_path_factory):
    import tfbig

    folder = tmp_path_factory.mktemp("searched") / "folder"
    return tfbig.search(small_model, fresh_digits(), directory=folder, **search_options)


@pytest.fixture(scope="session")
def wide_model():
    """An untrained network with channels to spare, and a block that it can do without."""
    import keras
    from keras import layers

    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    y = layers.Conv2D(32, 3, activation="relu", name="stem")(inputs)
    y = layers.Add(name="sum")([y, layers.Conv2D(32, 3, padding="same", activation="relu", name="branch")(y)])
    y = layers.Conv2D(32, 3, activation="relu", name="body")(y)
    y = layers.GlobalAveragePooling2D()(y)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="classifier")(y), name="wide")
