"""Small data sets made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def make_images() -> Callable[..., Path]:
    """Writes class folders of noise JPEGs, in which the top left pixel tells the class."""

    def make(root: Path, *, classes: tuple[str, ...] = ("cat", "dog"), each: int = 10, side: int = 12) -> Path:
        rng = np.random.default_rng(len(classes) * 100 + each)
        for label, name in enumerate(classes):
            (root / name).mkdir(parents=True)
            for i in range(each):
                image = rng.integers(0, 40, (side + i % 3, side, 3), dtype=np.uint8) + np.uint8(label * 100)
                (root / name / f"{i:03d}.jpg").write_bytes(tf.io.encode_jpeg(image, quality=95).numpy())
        return root

    return make


@pytest.fixture
def table() -> dict[str, np.ndarray]:
    """The arrays of an `.npz` that is right."""
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.normal(size=(40, 3)),
        "y_train": np.arange(40) % 4,
        "x_test": rng.normal(size=(8, 3)),
        "y_test": np.arange(8) % 4,
    }
