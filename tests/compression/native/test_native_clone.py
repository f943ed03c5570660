"""What goes along into a copy, what is merged in it, and what is refused with its reason."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.compression.native.clone import clone, without_lora
from tfbig.errors import InvalidArgument, InvalidModel

IDS = np.random.default_rng(0).integers(0, 30, (16, 6)).astype("int32")


class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Without a `get_config`, as tutorials have it."""

    def __call__(self, step):
        return 1e-3 * keras.ops.minimum(1.0, keras.ops.cast(step, "float32") / 10.0)


@pytest.fixture
def adapted():
    """A network with adapters in every kind of layer that has them, trained for a moment."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Conv1D(16, 3, padding="same", activation="relu", name="conv")(
        layers.Embedding(30, 8, name="words")(inputs)
    )
    x = layers.GlobalAveragePooling1D()(layers.EinsumDense("btd,de->bte", (6, 16), name="einsum")(x))
    model = keras.Model(inputs, layers.Dense(3, name="head")(layers.Dense(16, activation="relu", name="dense")(x)))
    for name in ("conv", "words", "einsum", "dense"):
        model.get_layer(name).enable_lora(2)
    model.compile("adam", "mse")
    model.fit(IDS, np.ones((16, 3)), epochs=2, verbose=0)
    return model


def test_adapters_are_merged(adapted):
    merged = without_lora(adapted)
    assert len(merged.weights) == len(adapted.weights) - 8
    np.testing.assert_allclose(merged.predict(IDS, verbose=0), adapted.predict(IDS, verbose=0), atol=1e-5)
    assert without_lora(merged) is merged and merged.get_layer("dense").kernel.trainable


def test_adapted_layers_are_pruned(adapted):
    technique = tfbig.Prune(sparsity=0.5, begin=0, end=0)
    prepared = technique.prepare(adapted)
    prepared.compile("adam", "mse")
    prepared.fit(IDS, np.ones((16, 3)), verbose=0)
    pruned = technique.finish(prepared)
    technique.verify(pruned)
    kernels = [pruned.get_layer(name).kernel.numpy() for name in ("conv", "einsum", "dense")]
    assert all(abs(np.mean(kernel == 0) - 0.5) < 0.02 for kernel in kernels)


def test_what_a_model_was_compiled_with_stays_behind():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(16), layers.Dense(2)])
    model.compile(keras.optimizers.Adam(Warmup()), "mse")
    np.testing.assert_array_equal(clone(model).get_weights()[0], model.get_weights()[0])
    assert tfbig.Prune(sparsity=0.5).prepare(model).compiled is False


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_16_bits_are_not_trained(dtype, tmp_path):
    inputs = keras.Input((4,))
    x = layers.Dense(8, activation="relu", dtype=dtype, name="half")(inputs)
    model = keras.Model(inputs, layers.Dense(2, dtype=dtype)(x))
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    text = f"holds the weights of 'half' in {dtype}.* Build it under the policy 'mixed_{dtype}'"
    with pytest.raises(InvalidModel, match=text):
        tfbig.Prune(sparsity=0.5).prepare(model)
    with pytest.raises(InvalidModel, match=text):
        tfbig.compress(model, "int8", train=(x, np.zeros((8, 2))), verbose=0)
    from tfbig.measurement.litert import run_litert

    got = run_litert(tfbig.export(model, tmp_path / "m.tflite"), [x])[0]
    np.testing.assert_allclose(got, np.asarray(model(x)).astype("float32"), atol=0.05)


def test_what_keras_has_quantized_is_refused(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(8, name="first"), layers.Dense(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras's, of the input
        model.quantize("int8")
    text = r"its layer 'first' was quantized by Keras \(int8\).*Give the model from before model.quantize"
    for refused in (
        lambda: tfbig.export(model, tmp_path / "m.tflite"),
        lambda: tfbig.Quantize("int8").prepare(model),
        lambda: tfbig.compress(model, "int8", train=(np.zeros((8, 4)), np.zeros((8, 2))), verbose=0),
    ):
        with pytest.raises(InvalidModel, match=text):
            refused()


@pytest.mark.parametrize("technique", [tfbig.Prune(sparsity=0.5), tfbig.Cluster(clusters=4)])
def test_frozen_layers_are_told_of(technique):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(16, name="frozen"), layers.Dense(16, name="head")])
    model.get_layer("frozen").trainable = False
    with pytest.warns(UserWarning, match=r"changes layers that are frozen .* in training: 'frozen'\. Unfreeze them"):
        technique.prepare(model)
    type(technique)(layers={"frozen": None}, **technique.get_config()).prepare(model)
    tfbig.Quantize("int8").prepare(model)


def test_layers_that_a_pattern_does_not_fit_stay_dense():
    body = [layers.Conv2D(16, 3, name="stem"), layers.Conv2D(16, 3, name="body"), layers.Flatten(), layers.Dense(8)]
    model = keras.Sequential([keras.Input((8, 8, 3)), *body])
    technique = tfbig.Prune(sparsity=0.5, pattern="2:4", begin=0, end=0)
    with pytest.warns(UserWarning, match="`pattern` is 2:4: these layers stay dense, .* their input channels: stem"):
        prepared = technique.prepare(model)
    prepared.compile("sgd", "mse")
    prepared.fit(np.zeros((4, 8, 8, 3)), np.zeros((4, 8)), verbose=0)
    pruned = technique.finish(prepared)
    technique.verify(pruned)
    assert [float(np.mean(pruned.get_layer(name).kernel.numpy() == 0)) for name in ("stem", "body")] == [0.0, 0.5]
    with pytest.raises(InvalidArgument, match="'stem/kernel' has 3 input channels, which 4 does not divide"):
        tfbig.Prune(sparsity=0.5, pattern="2:4", layers={"stem": 0.5}).prepare(model)
