"""Pooling over three axes in two steps, each of which LiteRT has an operation for."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras

from tfbig.training.overrides import overridden

_POOLS = {keras.layers.MaxPooling3D: keras.ops.max_pool, keras.layers.AveragePooling3D: keras.ops.average_pool}


@contextmanager
def planar_pooling(layers: Iterable[Any]) -> Iterator[None]:
    """While open, MaxPooling3D and AveragePooling3D pool over the last two axes, then over the first: the same numbers.

    The largest of the largest is the largest. The mean of means is the mean, also at a padded border: how many real
    values a window holds is a product of the axes.
    """
    three = [layer for layer in layers if type(layer) in _POOLS and layer.data_format == "channels_last"]
    with overridden(three, "call", _in_two_steps):
        yield


def _in_two_steps(layer: Any, inputs: Any) -> Any:
    depth, *plane, channels = inputs.shape[1:]
    pool = functools.partial(_POOLS[type(layer)], padding=layer.padding, data_format="channels_last")
    planes = keras.ops.reshape(inputs, (-1, *plane, channels))
    planes = pool(planes, layer.pool_size[1:], strides=layer.strides[1:])
    height, width = planes.shape[1:3]
    columns = keras.ops.reshape(planes, (-1, depth, height * width, channels))
    columns = pool(columns, (layer.pool_size[0], 1), strides=(layer.strides[0], 1))
    return keras.ops.reshape(columns, (-1, columns.shape[1], height, width, channels))
