"""`fashion_mnist`: 70,000 clothing images of 28 x 28 through Keras's own loader and cache (`KERAS_HOME`)."""

from __future__ import annotations

import os
from pathlib import Path

import keras

from tfbig.data.arrays import from_arrays
from tfbig.data.dataset import Data, LoadOptions
from tfbig.errors import InvalidFile

ARGUMENT = None
CLASSES = (
    "t-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def recognises(path: str) -> bool:
    return False


def load(argument: str, options: LoadOptions) -> Data:
    """Loads float32 images of shape `(28, 28, 1)` in [0, 1]; the 10,000 test images stay the test split.

    Raises:
        InvalidFile: the files are neither in Keras's cache nor can they be downloaded, or they are damaged.

    Reference: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, 2017, https://arxiv.org/abs/1708.07747.
    """
    try:
        train, test = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # Keras raises a bare Exception when the download fails.
        folder = Path(os.environ.get("KERAS_HOME", "~/.keras")) / "datasets" / "fashion-mnist"
        raise InvalidFile(
            f"Fashion-MNIST could not be read or downloaded: {error}. Connect to "
            "the network, or put its four .gz "
            f"files into `{folder}` (the environment variable KERAS_HOME moves that folder)."
        ) from error
    pairs = {"train": (train[0][..., None], train[1]), "test": (test[0][..., None], test[1])}
    return from_arrays(pairs, options, scale=1 / 255, class_names=CLASSES)
