"""Pooling over three axes, which LiteRT has no operation for."""

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.errors import ConversionFailed
from tfbig.exporters.planar_pooling import planar_pooling
from tfbig.measurement.litert import run_litert

X = np.random.default_rng(0).normal(size=(2, 5, 6, 7, 3)).astype("float32")


@pytest.mark.parametrize("kind", [layers.MaxPooling3D, layers.AveragePooling3D])
@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize(("size", "strides"), [(2, None), ((1, 3, 2), (1, 2, 1)), (3, 2)])
def test_two_steps_are_one(kind, padding, size, strides):
    layer = kind(size, strides=strides, padding=padding)
    expected = layer(X)
    with planar_pooling([layer]):
        found = layer.call(keras.ops.convert_to_tensor(X))
        assert "call" in layer.__dict__
    assert "call" not in layer.__dict__
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("trained", [False, True])
def test_a_video_network_becomes_a_file(tmp_path, trained):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4, 8, 8, 2))
    x = layers.Conv3D(8, 3, padding="same", activation="relu")(inputs)
    x = layers.AveragePooling3D((1, 2, 2))(layers.MaxPooling3D()(x))
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    x = np.random.default_rng(1).random((16, 4, 8, 8, 2), "float32")
    if trained:
        prepared = tfbig.Quantize("int8").prepare(model)
        prepared.compile("sgd", "mse")
        prepared.fit(x, model.predict(x, verbose=0), verbose=0)
        model = tfbig.Quantize("int8").finish(prepared)
    file = tfbig.export(model, tmp_path / "video.tflite")
    np.testing.assert_allclose(
        run_litert(file, [x])[0], model.predict(x, verbose=0), atol=0.1 if trained else 1e-5, err_msg=str(trained)
    )


def test_what_litert_has_no_operation_for_is_named(tmp_path):
    inputs = keras.Input((4, 4))
    x = keras.layers.Lambda(lambda t: keras.ops.erfinv(t), name="inverse")(inputs)
    with pytest.raises(
        ConversionFailed, match=r"no operation for Erfinv \(in 'inverse/erfinv'\)\. Build the model with"
    ):
        tfbig.export(keras.Model(inputs, x), tmp_path / "model.tflite")
