"""Small MobileNet of depthwise separable convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from tfbig.errors import InvalidArgument, check_count, check_range
from tfbig.models.arguments import check_counts, check_image_shape, widened


def build(
    *,
    input_shape: Sequence[int] = (32, 32, 3),
    classes: int = 10,
    filters: Sequence[int] = (32, 64, 128, 128, 256, 256),
    strides: Sequence[int] = (1, 1, 2, 1, 2, 1),
    width: float = 1.0,
    dropout: float = 0.0,
    output_activation: str | None = "softmax",
    name: str = "mobilenet",
) -> keras.Model:
    """A MobileNet for small images: a convolution, then depthwise separable blocks.

    A block is depthwise 3x3-bn-relu6, then pointwise 1x1-bn-relu6. The full-size network is
    `build("MobileNet")`, from keras.applications.

    Args:
        input_shape: `(height, width, channels)`.
        classes: number of outputs, >= 1.
        filters: filters of the first convolution, then of each block.
        strides: stride of the first convolution, then of each block; as many as `filters`.
        width: multiplies all filters, which are rounded to multiples of 4, > 0.
        dropout: share of pooled features dropped in training, in [0, 1).
        output_activation: "softmax", "sigmoid", or None for logits; kept in float32.

    Returns:
        A Functional model from `(batch, height, width, channels)` to `(batch, classes)`.

    Raises:
        InvalidArgument: a value out of range.

    Reference:
        Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications",
        arXiv:1704.04861, 2017, table 1.
    """
    _check(input_shape, classes, filters, strides, width, dropout)
    widths = [widened(count, width, divisor=4) for count in filters]

    inputs = keras.Input(tuple(input_shape), name="image")
    x = layers.Conv2D(widths[0], 3, strides=strides[0], padding="same", use_bias=False, name="stem_conv")(inputs)
    x = _normalized(x, "stem")
    for block, (count, stride) in enumerate(zip(widths[1:], strides[1:], strict=True), start=1):
        x = _separable(x, count, stride, f"block{block}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    outputs = layers.Dense(classes, activation=output_activation, dtype="float32", name="classifier")(x)
    return keras.Model(inputs, outputs, name=name)


def _separable(x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
    x = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = _normalized(x, f"{name}_depthwise")
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_pointwise")(x)
    return _normalized(x, f"{name}_pointwise")


def _normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(max_value=6.0, name=f"{name}_relu")(x)


def _check(
    input_shape: Sequence[int],
    classes: int,
    filters: Sequence[int],
    strides: Sequence[int],
    width: float,
    dropout: float,
) -> None:
    check_image_shape(input_shape)
    check_count("classes", classes)
    check_counts("filters", filters)
    check_counts("strides", strides)
    if len(strides) != len(filters):
        raise InvalidArgument(
            f"`strides` must have one entry for each of the {len(filters)} `filters`, received {strides!r}."
        )
    check_range("width", width, 0, 64, closed="right")
    check_range("dropout", dropout, 0, 1, closed="left")
