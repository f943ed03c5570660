"""Layers that multiply and shift each channel: BatchNormalization at inference, and Normalization."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

TOO_COARSE = "the columns that are normalized differ more in scale than the integers of one range can show"
_SPREAD = 3  # standard deviations to either side that a column takes up
_FEWEST = 4  # integers that a standard deviation of a column needs at least


def is_affine(layer: Any, rank: int) -> bool:
    """Whether `layer` acts on the last axis of a tensor of `rank`, one factor and one offset for each channel."""
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.axis in (-1, rank - 1)
    if isinstance(layer, keras.layers.Normalization):
        axes = (layer.axis,) if isinstance(layer.axis, int) else tuple(layer.axis or ())
        return axes in ((-1,), (rank - 1,))
    return False


def is_too_coarse(layer: Any, bits: int) -> bool:
    """Whether integers of one range for all columns of a Normalization's input are too few for the narrowest column.

    Tables have columns such as an age beside an income: what is one step for the income is the whole age.
    """
    if not isinstance(layer, keras.layers.Normalization):
        return False
    scale, offset = (np.asarray(each, np.float64) for each in scale_and_offset(layer))
    means, deviations = -offset / scale, 1 / np.abs(scale)
    low, high = (means - _SPREAD * deviations).min(), (means + _SPREAD * deviations).max()
    return bool(max(high, 0) - min(low, 0) > 2**bits * deviations.min() / _FEWEST)


def scale_and_offset(layer: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """The vectors by which the layer acts: `y = x * scale + offset`."""
    if isinstance(layer, keras.layers.Normalization):
        return _of_normalization(layer)
    scale = tf.math.rsqrt(tf.convert_to_tensor(layer.moving_variance) + layer.epsilon)
    if layer.scale:
        scale = scale * tf.convert_to_tensor(layer.gamma)
    offset = -tf.convert_to_tensor(layer.moving_mean) * scale
    return scale, offset + tf.convert_to_tensor(layer.beta) if layer.center else offset


def as_convolution(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """`x * scale + offset` as a depthwise convolution of one pixel.

    LiteRT then has one op with a scale for each channel and a bias of 32 bits, in place of two ops whose vectors and
    whose tensor in between are cut to 8 bits; and its converter cannot merge the factors into the layer behind.
    """
    channels = x.shape[-1]
    inner = x.shape[1:-1]
    pixels = x if len(inner) == 2 else tf.reshape(x, (-1, 1, int(np.prod(inner)), channels))
    kernel = tf.cast(tf.reshape(scale, (1, 1, channels, 1)), x.dtype)
    y = tf.nn.depthwise_conv2d(pixels, kernel, (1, 1, 1, 1), "VALID")
    y = tf.nn.bias_add(y, tf.cast(offset, x.dtype))
    # A pooling of one pixel changes nothing, but keeps the converter from moving the offset behind the reshape.
    return y if len(inner) == 2 else tf.reshape(tf.nn.max_pool2d(y, 1, 1, "VALID"), (-1, *inner, channels))


def _of_normalization(layer: Any) -> tuple[tf.Tensor, tf.Tensor]:
    mean = tf.reshape(tf.convert_to_tensor(layer.mean), (-1,))
    deviation = tf.sqrt(tf.reshape(tf.convert_to_tensor(layer.variance), (-1,)))
    deviation = tf.maximum(deviation, keras.config.epsilon())
    return (deviation, mean) if layer.invert else (1.0 / deviation, -mean / deviation)
