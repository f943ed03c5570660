"""Factors of normalization that stay an operation of their own, where the converter would spoil the weights behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tfbig.compression.native.affine import as_convolution, is_affine, scale_and_offset
from tfbig.compression.native.kernels import shares_values
from tfbig.compression.native.prepared import Prepared
from tfbig.training.overrides import overridden

_MATRICES = (keras.layers.Dense, keras.layers.EinsumDense)


@contextmanager
def standing_norms(model: keras.Model, layers: Iterable[Any]) -> Iterator[None]:
    """While open, the factors of some normalizations are a convolution, if the model is prepared or clustered.

    LiteRT's converter multiplies them into the matrix behind, row by row. 16 values that `Cluster` left become 16 in
    each row, and the tensor between the two, whose range `Quantize` has learned, is gone. It does so with
    RMSNormalization, and with a BatchNormalization that has no linear layer before it into which it could go.
    """
    layers = list(layers)
    batch = [layer for layer in layers if _normalizes_activations(layer)]
    rms = [layer for layer in layers if isinstance(layer, keras.layers.RMSNormalization)]
    # Asked last: it counts the values of every matrix.
    if not (batch or rms) or not (isinstance(model, Prepared) or _is_clustered(layers)):
        batch, rms = [], []
    with overridden(batch, "call", _batch_normalization), overridden(rms, "call", _rms_normalization):
        yield


def _normalizes_activations(layer: Any) -> bool:
    """Whether this is BatchNormalization of vectors that no linear layer has just computed."""
    if not isinstance(layer, keras.layers.BatchNormalization):
        return False
    inputs = [node.input_tensors[0] for node in layer._inbound_nodes]
    vectors = [x for x in inputs if len(x.shape) in (2, 3) and is_affine(layer, len(x.shape))]
    return len(vectors) == len(inputs) > 0 and not any(_is_linear(x._keras_history.operation) for x in inputs)


def _is_clustered(layers: Iterable[Any]) -> bool:
    return any(isinstance(layer, _MATRICES) and shares_values(layer.kernel.numpy()) for layer in layers)


def _is_linear(layer: Any) -> bool:
    return isinstance(layer, _MATRICES) and layer.activation is keras.activations.linear


def _batch_normalization(layer: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    return as_convolution(tf.convert_to_tensor(inputs), *scale_and_offset(layer))


def _rms_normalization(layer: Any, x: Any) -> Any:
    if list(layer.axis) not in ([-1], [len(x.shape) - 1]):
        return type(layer).call(layer, x)
    scale = tf.convert_to_tensor(layer.scale)
    y = keras.ops.rms_normalization(x, axis=layer.axis, epsilon=layer.epsilon)
    return as_convolution(tf.convert_to_tensor(y), scale, tf.zeros_like(scale))
