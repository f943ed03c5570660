"""Augmentation layers: random in training, nothing else."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tfbig.data import augmentation, load
from tfbig.errors import InvalidArgument

EACH = [{"rotation": 30}, {"shift": 0.3}, {"shear": 0.4}, {"zoom": 0.5}, {"flip": "vertical"}, {"flip": True}]


def _images() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 255, (16, 12, 12, 3)).astype(np.float32)


@pytest.mark.parametrize("options", EACH)
def test_each_changes_images_in_training_only(options):
    images, layers = _images(), augmentation(**options)
    assert [type(layer).__name__ for layer in layers.layers][0].startswith("Random") and len(layers.layers) == 1
    np.testing.assert_array_equal(layers(images, training=False), images)
    changed = keras.ops.convert_to_numpy(layers(images, training=True))
    assert changed.shape == images.shape and np.abs(changed - images).max() > 1
    assert np.isfinite(changed).all() and changed.min() >= -1e-3 and changed.max() <= 255 + 1e-3


def test_flips_are_flips():
    images = _images()
    flipped = keras.ops.convert_to_numpy(augmentation(flip="vertical")(images, training=True))
    kinds = [
        "same" if np.array_equal(a, b) else "flipped" if np.array_equal(a[::-1], b) else "other"
        for a, b in zip(images, flipped, strict=True)
    ]
    assert set(kinds) == {"same", "flipped"}


def test_shift_moves_whole_images_within_range():
    image = np.zeros((64, 20, 20, 1), np.float32)
    image[:, 10, 10] = 1
    moved = keras.ops.convert_to_numpy(augmentation(shift=0.2, fill="constant")(image, training=True))
    rows = (moved.sum((2, 3)) * np.arange(20)).sum(1) / moved.sum((1, 2, 3))
    assert np.abs(rows - 10).max() <= 4.01 and np.ptp(rows) > 3


def test_same_seed_same_images():
    images = _images()
    one, two = (augmentation(rotation=20, shift=0.1, zoom=0.1, flip=True, seed=4)(images, training=True) for _ in "ab")
    other = augmentation(rotation=20, shift=0.1, zoom=0.1, flip=True, seed=5)(images, training=True)
    np.testing.assert_array_equal(one, two)
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 1


def test_works_in_a_model_and_is_saved_with_it(tmp_path):
    inputs = keras.Input((8, 8, 1))
    x = augmentation(rotation=10, shift=0.1, shear=0.1, zoom=0.1, flip="horizontal_and_vertical")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    data = load("digits", batch_size=256)
    model.fit(data.train, epochs=1, verbose=0, shuffle=False)
    model.save(tmp_path / "m.keras")
    digits = next(iter(data.test))[0]
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again(digits, training=False), model(digits, training=False), atol=1e-6)


def test_works_in_the_data():
    layers, data = augmentation(shift=0.3, flip=True), load("digits", batch_size=64)
    augmented = data.validation.map(lambda x, y: (layers(x, training=True), y))
    (plain, labels), (changed, same_labels) = next(iter(data.validation)), next(iter(augmented))
    np.testing.assert_array_equal(labels, same_labels)
    assert changed.shape == plain.shape and np.abs(changed - plain).max() > 0.1


def test_nothing_asked_is_the_identity():
    images = _images()
    np.testing.assert_array_equal(augmentation()(images, training=True), images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rotation": 200}, r"`rotation` must be in \[0, 180\], received 200"),
        ({"shift": 1.0}, r"`shift` must be in \[0, 1\), received 1.0"),
        ({"shear": -0.1}, r"`shear` must be in \[0, 1\]"),
        ({"zoom": 1}, r"`zoom` must be in \[0, 1\)"),
        (
            {"flip": "diagonal"},
            "`flip` must be one of horizontal, vertical, horizontal_and_vertical, received 'diagonal'",
        ),
        ({"fill": "blue"}, "`fill` must be one of nearest, reflect, wrap, constant, received 'blue'"),
    ],
)
def test_out_of_range(options, message):
    with pytest.raises(InvalidArgument, match=message):
        augmentation(**options)
