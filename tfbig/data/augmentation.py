"""Augmentation of images as Keras preprocessing layers: what `ImageDataGenerator` offered."""

from __future__ import annotations

import keras

from tfbig.errors import InvalidArgument, check_range

FLIPS = ("horizontal", "vertical", "horizontal_and_vertical")
FILLS = ("nearest", "reflect", "wrap", "constant")


def augmentation(
    *,
    rotation: float = 0.0,
    shift: float = 0.0,
    shear: float = 0.0,
    zoom: float = 0.0,
    flip: str | bool = False,
    fill: str = "nearest",
    seed: int = 0,
) -> keras.Sequential:
    """Builds the layers that change images at random while training and leave them alone otherwise.

    Use it as the first layers of a model, so that it is saved with it, or in the data:
    `train.map(lambda x, y: (layers(x, training=True), y))`. Images are `(batch, height, width, channels)`.
    `fit`, `evaluate` and `predict` switch it on and off; a plain call `model(x)` needs `training=False`,
    since Keras takes these layers to be training when nobody says.

    Args:
        rotation: largest angle in degrees, either way, in [0, 180].
        shift: largest move as a share of height and width, either way, in [0, 1).
        shear: largest slant as a share of the side, either way, in [0, 1].
        zoom: largest change of size as a share, in or out, in [0, 1).
        flip: "horizontal", "vertical", "horizontal_and_vertical"; True is "horizontal", False is none.
        fill: what comes into the picture from outside: "nearest", "reflect", "wrap" or "constant" (black).
        seed: of the random changes, 0 or more.

    Raises:
        InvalidArgument: an argument outside its range.
    """
    check_range("rotation", rotation, 0, 180)
    check_range("shift", shift, 0, 1, closed="left")
    check_range("shear", shear, 0, 1)
    check_range("zoom", zoom, 0, 1, closed="left")
    flip = {True: "horizontal", False: ""}[flip] if isinstance(flip, bool) else flip
    _check_choice("flip", flip, ("", *FLIPS))
    _check_choice("fill", fill, FILLS)
    layers: list[keras.layers.Layer] = []
    if flip:
        layers.append(keras.layers.RandomFlip(flip, seed=seed))
    if rotation:
        layers.append(keras.layers.RandomRotation(rotation / 360, fill_mode=fill, seed=seed + 1))
    if shift:
        layers.append(keras.layers.RandomTranslation(shift, shift, fill_mode=fill, seed=seed + 2))
    if shear:
        # Not a plain number: Keras 3.15 cannot load that again. The layer itself draws the sign.
        span = (0.0, float(shear))
        layers.append(keras.layers.RandomShear(span, span, fill_mode=fill, seed=seed + 3))
    if zoom:
        layers.append(keras.layers.RandomZoom(zoom, fill_mode=fill, seed=seed + 4))
    return keras.Sequential(layers or [keras.layers.Identity()], name="augmentation")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidArgument(f"`{name}` must be one of {', '.join(filter(None, choices))}, received {value!r}.")
