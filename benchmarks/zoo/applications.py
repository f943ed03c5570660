"""The 40 architectures of `keras.applications`, at the smallest input that each of them takes."""

from __future__ import annotations

import functools

import keras

from benchmarks.zoo.registry import ENTRIES, Entry

_SMALLEST = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
_RESCALE_INSIDE = ("EfficientNet", "MobileNetV3", "ConvNeXt")  # they take pixels in [0, 255]


def build(name: str) -> keras.Model:
    """One architecture with random weights and ten classes."""
    size = _SMALLEST.get(name, 32)
    return getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)


for _name, _function in sorted(vars(keras.applications).items()):
    if _name[0].isupper() and callable(_function):
        _span = (0.0, 255.0) if _name.startswith(_RESCALE_INSIDE) else (-1.0, 1.0)
        ENTRIES[_name] = Entry(_name, functools.partial(build, _name), "application", _span)
