"""Small numbers before logarithms, divisions and roots are not rounded to 0."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfbig
from tfbig.compression.native.inference import quantizing_machine
from tfbig.measurement.litert import run_litert

MEL = np.abs(np.random.default_rng(1).normal(size=(16, 6))).astype("float32")


@keras.saving.register_keras_serializable(package="test_native_poles")
class LogMel(layers.Layer):
    """As the front end of an audio model: a power, bands of it, and their logarithm."""

    def call(self, x):
        return ops.log(ops.matmul(ops.square(x), MEL) + 1e-6)


def powers(samples: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(samples, 8, 16)) * 10.0 ** rng.uniform(-3, 0, (samples, 8, 1))).astype("float32")


BODIES = {
    "log": LogMel(),
    "division": lambda x: x / (ops.sum(ops.abs(x), axis=-1, keepdims=True) + 1e-6),
    "root": lambda x: x * ops.rsqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-7),
    "log of classes": lambda x: ops.log(ops.softmax(x) + 1e-7),
}


def trained(body) -> keras.Model:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 16))
    y = layers.Dense(8, activation="relu", name="behind")(body(inputs))
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(y)))
    prepared = tfbig.Quantize("int8").prepare(model)
    prepared.compile("adam", "mse")
    history = prepared.fit(powers(), np.zeros((64, 3)), epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    return tfbig.Quantize("int8").finish(prepared)


@pytest.mark.parametrize("kind", BODIES)
def test_the_file_computes_what_was_trained(kind, tmp_path):
    model, x = trained(BODIES[kind]), powers(16)
    file = tfbig.export(model, tmp_path / "m.tflite")
    want = model.predict(x, verbose=0)
    np.testing.assert_allclose(run_litert(file, [x])[0], want, atol=1e-5 * np.abs(want).max())
    inspection = tfbig.inspect(file)
    assert all("tells numbers apart that 8 bits round to 0" in op.reason for op in inspection.float_ops)
    assert {"log": "LOG", "division": "DIV", "root": "RSQRT", "log of classes": "LOG"}[kind] in {
        op.type for op in inspection.float_ops
    }
    assert [op.arithmetic for op in inspection.ops if op.type == "FULLY_CONNECTED"][-2:] == ["integer", "integer"]


def float_operations(outputs_of) -> list[str]:
    inputs = keras.Input((8, 16))
    machine = quantizing_machine(tfbig.Quantize("int8").prepare(keras.Model(inputs, outputs_of(inputs))))
    return [type(step.operation).__name__ for step in machine.graph.steps if id(step.operation) in machine.stay_float]


def test_what_computes_with_weights_stays_integer():
    body = layers.Dense(8, activation="relu")
    assert float_operations(lambda x: ops.log(body(x) + 1e-3)) == ["Add", "Log"]


@pytest.mark.parametrize(
    "divisor", [lambda x: 1.0 + ops.square(x), lambda x: ops.abs(x) + 1.0, lambda x: 1.0 + ops.relu(x)]
)
def test_what_is_far_from_zero_is_no_pole(divisor):
    assert float_operations(lambda x: layers.Dense(8)(x) / divisor(layers.Dense(8)(x))) == []
    assert float_operations(lambda x: layers.Dense(2)(ops.log(divisor(x)))) == []


def test_large_steps_behind_weights_stay_integer():
    """Behind the first weights only what goes element by element stays float, and what is divided does not."""

    def body(x):
        x = layers.MaxPooling1D(2)(layers.Conv1D(8, 3)(x))
        return layers.Dense(4)(layers.MaxPooling1D(2)(x) / (ops.abs(ops.sum(x, axis=1, keepdims=True)) + 1e-6))

    assert float_operations(body) == ["Sum", "Absolute", "Add", "TrueDivide"]


def test_what_others_read_too_stays_integer():
    def both(x):
        shared = ops.square(x)
        return layers.Dense(2)(ops.concatenate([ops.log(ops.abs(shared) + 1e-3), shared]))

    assert float_operations(both) == ["Absolute", "Add", "Log"]


@pytest.mark.parametrize("activation", ["softplus", "mish", "softsign", "log_softmax"])
def test_activations_that_are_written_out_are_tame(activation):
    assert "Log" not in float_operations(lambda x: layers.Dense(4, activation=activation)(x))
    assert "Rsqrt" not in float_operations(lambda x: layers.Dense(4, activation=activation)(x))


def test_division_by_a_number_is_a_scale():
    assert float_operations(lambda x: layers.Dense(4)(x / 255.0)) == []


CAUSAL = np.tril(np.ones((8, 8), "float32"))


@keras.saving.register_keras_serializable(package="test_native_poles")
class OwnAttention(layers.Layer):
    """Attention as tutorials write it, its mask added or put in the place of scores."""

    def __init__(self, kind, **options):
        super().__init__(**options)
        self.kind = kind
        self.projections = [layers.Dense(16, name=name) for name in ("query", "key", "value")]

    def build(self, shape):
        for layer in self.projections:
            layer.build(shape)

    def call(self, x, padding=None):
        query, key, value = (layer(x) for layer in self.projections)
        scores = ops.matmul(query, ops.transpose(key, (0, 2, 1)))
        if self.kind == "added":
            scores = scores + (1.0 - CAUSAL) * -1e9
        elif self.kind == "in place":
            scores = ops.where(CAUSAL > 0, scores, -1e9)
        else:
            scores = scores + (1.0 - padding[:, None, :]) * -1e9
        return ops.matmul(ops.softmax(scores), value)

    def get_config(self):
        return {**super().get_config(), "kind": self.kind}


@pytest.mark.parametrize("kind", ["added", "in place", "padding"])
def test_masks_of_ones_own_hide_no_other_scores(kind, tmp_path):
    keras.utils.set_random_seed(0)
    inputs, padding = keras.Input((8, 16), name="x"), keras.Input((8,), name="padding")
    attention = OwnAttention(kind)
    y = attention(inputs, padding) if kind == "padding" else attention(inputs)
    model = keras.Model([inputs, padding], [layers.Dense(4)(y), layers.Dense(1)(padding)])
    x = [np.random.default_rng(0).normal(size=(64, 8, 16)).astype("float32"), np.ones((64, 8), "float32")]
    x[1][:, 6:] = 0
    technique = tfbig.Quantize("int8")
    prepared = technique.prepare(model)
    prepared.compile(keras.optimizers.SGD(0.0), ["mse", "mse"])
    prepared.fit(x, [np.zeros((64, 8, 4)), np.zeros((64, 1))], verbose=0)
    finished = technique.finish(prepared)
    want, trained = (m.predict(x, verbose=0)[0] for m in (model, finished))
    assert 10 * np.log10(np.sum(want**2) / np.sum((want - trained) ** 2)) > 20
    file = tfbig.export(finished, tmp_path / "m.tflite")
    np.testing.assert_allclose(run_litert(file, x)[0], trained, atol=1e-5 * np.abs(trained).max())
    assert {op.type for op in tfbig.inspect(file).float_ops} <= {"ADD", "SELECT_V2", "MUL", "RESHAPE", "SOFTMAX"}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_padding_is_hidden_from_attention_as_keras_hides_it(dropout, tmp_path):
    """Keras finds masks at the tensors that a layer is called with; self-attention has one tensor for two of them."""
    keras.utils.set_random_seed(0)
    first, second = keras.Input((6,), dtype="int32", name="first"), keras.Input((5,), dtype="int32", name="second")
    x, other = (layers.Embedding(20, 16, mask_zero=True)(ids) for ids in (first, second))
    x = layers.MultiHeadAttention(2, 8, dropout=dropout, name="self")(x, x, use_causal_mask=True)
    x = layers.MultiHeadAttention(2, 8, dropout=dropout, name="cross")(x, other)
    model = keras.Model([first, second], layers.Dense(4)(x))
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 20, (64, length)).astype("int32") for length in (6, 5)]
    for array in ids:
        for row in array:
            row[rng.integers(1, len(row)) :] = 0
    technique = tfbig.Quantize("int8")
    prepared = technique.prepare(model)
    prepared.compile(keras.optimizers.SGD(0.0), "mse")
    prepared.fit(ids, np.zeros((64, 6, 4)), verbose=0)
    finished = technique.finish(prepared)
    want = model.predict(ids, verbose=0)

    def decibels(got: np.ndarray) -> float:
        return 10 * np.log10(np.sum(want**2) / np.sum((want - got) ** 2))

    assert decibels(finished.predict(ids, verbose=0)) > 22
    assert decibels(run_litert(tfbig.export(finished, tmp_path / "m.tflite"), ids)[0]) > 22
    after = tfbig.export(model, tmp_path / "p.tflite", quantize="int8", calibration=ids)
    assert decibels(run_litert(after, ids)[0]) > 22
