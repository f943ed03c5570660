"""Residual network for small images."""

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
    depth: int = 8,
    filters: Sequence[int] = (16, 32, 64),
    width: float = 1.0,
    weight_decay: float = 1e-4,
    output_activation: str | None = "softmax",
    name: str = "resnet",
) -> keras.Model:
    """A ResNet for small images: three stacks of residual blocks, each stack at half the size of the last.

    A block is conv-bn-relu-conv-bn plus the shortcut, then relu. Where a stack changes the shape, its first
    shortcut is a 1x1 convolution (option B of the paper). Depth 8 is MLPerf Tiny's ResNet-8.

    Args:
        input_shape: `(height, width, channels)`.
        classes: number of outputs, >= 1.
        depth: layers with weights, 6 n + 2 for n blocks a stack: 8, 14, 20, 32, 44, 56, 110.
        filters: filters of the three stacks.
        width: multiplies all filters, > 0.
        weight_decay: L2 penalty of the convolution kernels, >= 0.
        output_activation: "softmax", "sigmoid", or None for logits; kept in float32.

    Returns:
        A Functional model from `(batch, height, width, channels)` to `(batch, classes)`.

    Raises:
        InvalidArgument: a value out of range.

    References:
        He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
        Banbury et al., "MLPerf Tiny Benchmark", NeurIPS 2021.
    """
    _check(input_shape, classes, depth, filters, width, weight_decay)
    widths = [widened(count, width) for count in filters]
    conv = _Convolution(weight_decay)

    inputs = keras.Input(tuple(input_shape), name="image")
    x = layers.ReLU(name="stem_relu")(conv.normalized(inputs, widths[0], 1, "stem"))
    for stack, count in enumerate(widths, start=1):
        for block in range(1, (depth - 2) // 6 + 1):
            stride = 2 if stack > 1 and block == 1 else 1
            x = _block(x, count, stride, conv, f"stack{stack}_block{block}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    outputs = layers.Dense(
        classes,
        activation=output_activation,
        kernel_initializer="he_normal",
        dtype="float32",
        name="classifier",
    )(x)
    return keras.Model(inputs, outputs, name=name)


class _Convolution:
    """Convolutions of one model: same padding, He initialisation, one weight decay."""

    def __init__(self, weight_decay: float):
        self.weight_decay = weight_decay

    def __call__(self, x: keras.KerasTensor, filters: int, kernel: int, stride: int, name: str) -> keras.KerasTensor:
        return layers.Conv2D(
            filters,
            kernel,
            strides=stride,
            padding="same",
            kernel_initializer="he_normal",
            kernel_regularizer=keras.regularizers.L2(self.weight_decay) if self.weight_decay else None,
            name=name,
        )(x)

    def normalized(self, x: keras.KerasTensor, filters: int, stride: int, name: str) -> keras.KerasTensor:
        return layers.BatchNormalization(name=f"{name}_bn")(self(x, filters, 3, stride, f"{name}_conv"))


def _block(x: keras.KerasTensor, filters: int, stride: int, conv: _Convolution, name: str) -> keras.KerasTensor:
    y = layers.ReLU(name=f"{name}_relu1")(conv.normalized(x, filters, stride, f"{name}_1"))
    y = conv.normalized(y, filters, 1, f"{name}_2")
    if stride != 1 or x.shape[-1] != filters:
        x = conv(x, filters, 1, stride, f"{name}_shortcut")
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu2")(x)


def _check(
    input_shape: Sequence[int],
    classes: int,
    depth: int,
    filters: Sequence[int],
    width: float,
    weight_decay: float,
) -> None:
    check_image_shape(input_shape)
    check_count("classes", classes)
    check_count("depth", depth, low=8)
    if (depth - 2) % 6:
        raise InvalidArgument(
            f"`depth` must be 6 n + 2 (8, 14, 20, 32, 44, 56, 110), received {depth}. "
            "ResNet-50 and its kin are in keras.applications: build('ResNet50')."
        )
    check_counts("filters", filters, length=3)
    check_range("width", width, 0, 64, closed="right")
    check_range("weight_decay", weight_decay, 0, 1)
