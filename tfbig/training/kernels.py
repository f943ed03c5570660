"""Fused TensorFlow kernels where Keras computes the same thing in many small steps, and sound ones for a broken one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tfbig.training.overrides import overridden

_FUSED_EPSILON = 1.001e-5  # The kernel takes no smaller one.
_SOUND_CHANNELS = 16  # With fewer, oneDNN's gradient of a strided 1x1 convolution may write outside its memory.


@contextmanager
def sound(model: keras.Model) -> Iterator[None]:
    """Trains `model` inside the block without the gradient that can end the process: same numbers, picked pixels.

    That of strided 1x1 convolutions of few channels: the pixels that they look at are picked first.
    """
    strided = [layer for layer in model._flatten_layers() if _is_strided_pointwise(layer)]
    with overridden(strided, "convolution_op", _picked_and_convolved):
        yield


@contextmanager
def fused(model: keras.Model) -> Iterator[None]:
    """Trains a compiled `model` with fused kernels inside the block: the same numbers up to rounding, in less time.

    BatchNormalization over the last axis of float32 images, and the step of Adam and AdamW on one device; everything
    else computes as it did.
    """
    norms = [layer for layer in model._flatten_layers() if _is_plain_norm(layer)]
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    alone = not isinstance(model.distribute_strategy, tf.distribute.MirroredStrategy) and model.jit_compile is not True
    adam = alone and type(optimizer) in (keras.optimizers.Adam, keras.optimizers.AdamW) and not optimizer.amsgrad
    with overridden(norms, "call", _normalized), overridden([optimizer] if adam else [], "update_step", _adam_step):
        yield


def _is_plain_norm(layer: keras.Layer) -> bool:
    if type(layer) is not keras.layers.BatchNormalization or not layer.built:
        return False
    whole = layer.input_spec.ndim == 4 and layer.axis in (-1, 3) and layer.epsilon >= _FUSED_EPSILON
    return whole and layer.scale and layer.center and not layer.renorm and not layer.synchronized


def _is_strided_pointwise(layer: keras.Layer) -> bool:
    if type(layer) is not keras.layers.Conv2D or not layer.built:
        return False
    pointwise = layer.kernel_size == (1, 1) and max(layer.strides) > 1 and layer.data_format == "channels_last"
    return pointwise and layer.groups == 1 and layer.kernel.shape[2] < _SOUND_CHANNELS


def _picked_and_convolved(layer: keras.layers.Conv2D, inputs: Any, kernel: Any) -> Any:
    picked = inputs[:, :: layer.strides[0], :: layer.strides[1]]
    return keras.ops.conv(picked, kernel, padding="valid", data_format="channels_last")


def _normalized(layer: keras.Layer, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    inputs = tf.convert_to_tensor(inputs) if not isinstance(inputs, keras.KerasTensor) else inputs
    if not training or not layer.trainable or mask is not None or inputs.dtype != tf.float32:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:-1]), tf.float32)
    outputs, mean, sample_variance, *_ = tf.compat.v1.nn.fused_batch_norm(
        inputs,
        tf.convert_to_tensor(layer.gamma.value),
        tf.convert_to_tensor(layer.beta.value),
        epsilon=layer.epsilon,
        is_training=True,
    )
    variance = sample_variance * (count - 1.0) / count  # The kernel divides by n - 1, Keras by n.
    for variable, value in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        old = tf.convert_to_tensor(variable.value)
        variable.assign(old * layer.momentum + tf.stop_gradient(value) * (1.0 - layer.momentum))
    return outputs


def _adam_step(optimizer: keras.optimizers.Adam, gradient: Any, variable: Any, learning_rate: Any) -> None:
    """Equation by equation what Adam's own `update_step` computes, in one pass over the memory."""
    if variable.dtype != tf.float32:
        type(optimizer).update_step(optimizer, gradient, variable, learning_rate)
        return
    index = optimizer._get_variable_index(variable)
    step = keras.ops.cast(optimizer.iterations + 1, "float32")
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=optimizer._momentums[index].value.handle,
        v=optimizer._velocities[index].value.handle,
        beta1_power=tf.pow(tf.cast(optimizer.beta_1, tf.float32), step),
        beta2_power=tf.pow(tf.cast(optimizer.beta_2, tf.float32), step),
        lr=tf.cast(learning_rate, tf.float32),
        beta1=optimizer.beta_1,
        beta2=optimizer.beta_2,
        epsilon=optimizer.epsilon,
        grad=tf.cast(tf.convert_to_tensor(gradient), tf.float32),
    )
