"""Files of Keras 3, `.h5` included, where Keras's own loader loses list axes and refuses `keras.ops`."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import tfbig
from tfbig.errors import InvalidFile, InvalidModel

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
X = np.random.default_rng(0).uniform(size=(2, 4, 3)).astype("float32")


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Layer):
    def call(self, x):
        return 2 * x


class Unregistered(layers.Layer):
    def call(self, x):
        return x


def axes() -> keras.Model:
    x = keras.Input((4, 3))
    return keras.Model(x, layers.Softmax(axis=(1, 2))(layers.LayerNormalization(axis=[1, 2])(x)))


def raw_operations() -> keras.Model:
    x = keras.Input((4, 3))
    return keras.Model(x, ops.relu(x * 2.0 - 0.5) + 1.0)


def nested() -> keras.Model:
    x, y = keras.Input((4, 3)), keras.Input((4, 3))
    inner = keras.Model(y, layers.Dense(3)(layers.Dense(5)(y)))
    stack = keras.Sequential([keras.Input((4, 3)), layers.BatchNormalization(), layers.Dense(3)])
    return keras.Model(x, layers.Add()([inner(x), inner(inner(x)), stack(x)]))


def wrapped() -> keras.Model:
    x = keras.Input((4, 3))
    return keras.Model(x, layers.Bidirectional(layers.GRU(2))(layers.MultiHeadAttention(2, 2)(x, x)))


def custom() -> keras.Model:
    return keras.Sequential([keras.Input((4, 3)), Doubled(name="doubled"), layers.Dense(2)])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("make", [axes, raw_operations, nested, wrapped, custom])
def test_outputs_are_equal(make, suffix, tmp_path):
    model = make()
    model.set_weights([np.random.default_rng(1).uniform(0.1, 1, w.shape) for w in model.get_weights()])
    model.save(tmp_path / f"model{suffix}")
    np.testing.assert_allclose(tfbig.load(tmp_path / f"model{suffix}")(X), model(X), atol=1e-6)


def test_archive_keeps_its_compile_settings(tmp_path):
    model = nested()
    model.compile(keras.optimizers.SGD(0.25), "mse")
    model.save(tmp_path / "model.keras")
    assert float(tfbig.load(tmp_path / "model.keras").optimizer.learning_rate.value) == 0.25


def strange_loss(y, p):
    return ops.mean(ops.abs(y - p))


def test_unknown_loss_does_not_cost_the_model(tmp_path):
    model = nested()
    model.compile("sgd", strange_loss)
    model.save(tmp_path / "model.keras")
    with pytest.warns(UserWarning, match="comes uncompiled.*strange_loss"):
        loaded = tfbig.load(tmp_path / "model.keras")
    assert not loaded.compiled
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)
    trusted = {"strange_loss": strange_loss}
    assert tfbig.load(tmp_path / "model.keras", custom_objects=trusted).compiled


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_custom_layer_by_its_plain_name(suffix, tmp_path):
    model = keras.Sequential([keras.Input((4, 3)), Unregistered(name="odd"), layers.Dense(2)])
    model.save(tmp_path / f"model{suffix}")
    with pytest.raises(InvalidModel, match="layer 'odd' of class Unregistered.*register_keras_serializable"):
        tfbig.load(tmp_path / f"model{suffix}")
    loaded = tfbig.load(tmp_path / f"model{suffix}", custom_objects={"Unregistered": Unregistered})
    np.testing.assert_allclose(loaded(X), model(X), atol=1e-6)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_only_when_trusted(suffix, tmp_path):
    model = keras.Sequential([keras.Input((4, 3)), layers.Lambda(lambda x: x * 3.0, name="triple")])
    path = tmp_path / f"model{suffix}"
    model.save(path)
    with pytest.raises(InvalidFile, match="holds code: layer 'triple' of class Lambda.*unsafe=True"):
        tfbig.load(path)
    np.testing.assert_allclose(tfbig.load(path, unsafe=True)(X), 3.0 * X, atol=1e-6)


def test_unzipped_folder(tmp_path):
    model = nested()
    keras.saving.save_model(model, tmp_path / "model", zipped=False)
    np.testing.assert_allclose(tfbig.load(tmp_path / "model")(X), model(X), atol=1e-6)


@pytest.mark.parametrize("name", ["resnet", "mlp", "mobilenet"])
def test_builders_of_the_suite(name, tmp_path):
    model = tfbig.models.build(name, input_shape=(8, 8, 1), classes=3)
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(0).uniform(size=(2, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(tfbig.load(tmp_path / "model.keras")(x), model(x), atol=1e-6)
