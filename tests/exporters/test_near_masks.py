"""Attention with masks, quantized after training: what is hidden does not take the range of what counts."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfbig
from tfbig.exporters.near_masks import near_masks
from tfbig.measurement.litert import run_litert

X = np.random.default_rng(0).normal(size=(64, 12, 16)).astype("float32")
CAUSAL = np.tril(np.ones((1, 12, 12), "bool"))


@keras.saving.register_keras_serializable(package="test_near_masks")
class OwnAttention(layers.Layer):
    """A mask of -1e9 that is added, as many tutorials have it."""

    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 3 * shape[-1]), name="w")

    def call(self, x):
        q, k, v = ops.split(ops.matmul(x, self.w), 3, axis=-1)
        scores = ops.matmul(q, ops.transpose(k, (0, 2, 1))) + (1.0 - CAUSAL.astype("float32")) * -1e9
        return ops.matmul(ops.softmax(scores), v)


KINDS = {
    "causal": lambda x: layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True),
    "given mask": lambda x: layers.MultiHeadAttention(2, 8)(x, x, attention_mask=CAUSAL),
    "with scores": lambda x: layers.MultiHeadAttention(2, 8, dropout=0.1)(x, x, use_causal_mask=True),
    "grouped": lambda x: layers.GroupQueryAttention(8, 4, 2)(x, x, use_causal_mask=True),
    "own": lambda x: OwnAttention()(x),
    "dot product": lambda x: layers.Attention()([x, layers.Dense(16)(x)], use_causal_mask=True),
}


def network(kind: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 16))
    return keras.Model(inputs, KINDS[kind](layers.Dense(16)(inputs)))


def decibels(signal: np.ndarray, other: np.ndarray) -> float:
    return 10 * np.log10(np.sum(signal**2) / np.sum((signal - other) ** 2))


@pytest.mark.parametrize("kind", KINDS)
def test_integers_hold_masked_scores(kind, tmp_path):
    model = network(kind)
    file = tfbig.export(model, tmp_path / "m.tflite", quantize="int8", calibration=X)
    assert decibels(model.predict(X, verbose=0), run_litert(file, [X])[0]) > 24
    reasons = {op.reason for op in tfbig.inspect(file).float_ops}
    if kind in ("own", "dot product"):  # Their masks are added, to scores of any kind.
        assert reasons == {"scores are masked by numbers so large that 8 bits could not tell the others apart"}
    else:
        assert not reasons


@pytest.mark.parametrize("kind", ["causal", "given mask", "with scores", "grouped"])
def test_near_masks_hide_what_far_ones_hide(kind):
    model = network(kind)
    want = np.asarray(model(X))
    with near_masks(model._flatten_layers()):
        near = np.asarray(model(X))
    np.testing.assert_allclose(near, want, rtol=1e-3, atol=5e-4)
    np.testing.assert_array_equal(np.asarray(model(X)), want)
    changed = X.copy()
    changed[:, 7:] += 1.0
    with near_masks(model._flatten_layers()):
        np.testing.assert_allclose(np.asarray(model(changed))[:, :7], near[:, :7], atol=1e-4)


def test_onnx_holds_masked_scores(tmp_path):
    from tfbig.measurement.subject import subject_of

    model = network("causal")
    file = tfbig.export(model, tmp_path / "m.onnx", quantize="int8", calibration=X)
    assert decibels(model.predict(X, verbose=0), subject_of(file).predict(X)[0]) > 20
