"""`compress` takes Sequential and subclassed models as it takes Functional ones, or says why it cannot."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import tfbig
from tfbig.compression.native.inference import quantizing_machine
from tfbig.errors import InvalidModel
from tfbig.pipeline.compress import compress


@keras.saving.register_keras_serializable("tests")
class TracedModel(keras.Model):
    def __init__(self, **config):
        super().__init__(**config)
        self.conv, self.flatten = keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.Flatten()
        self.classifier = keras.layers.Dense(10, activation="softmax")

    def call(self, x):
        return self.classifier(self.flatten(self.conv(x)))


@keras.saving.register_keras_serializable("tests")
class BranchesOnValues(TracedModel):
    def call(self, x):
        return super().call(x if float(keras.ops.sum(x)) > 0 else -x)


def sequential() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def subclassed(kind: type = TracedModel) -> keras.Model:
    model = kind()
    model(np.zeros((1, 8, 8, 1), "float32"))
    return model


@pytest.mark.parametrize("build", [sequential, subclassed])
def test_pruned_quantized_saved_and_loaded(build, fresh_digits, tmp_path):
    keras.utils.set_random_seed(0)
    data, model = fresh_digits(), build()
    model.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy")
    model.fit(data.train, epochs=5, verbose=0, shuffle=False)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    result = compress(model, [tfbig.Prune(sparsity=0.5), tfbig.Quantize()], **splits, epochs=2, verbose=0)
    integer = result.stages[-1].measurement
    assert integer.quality > 0.5
    assert integer.zero_fraction == pytest.approx(0.5, abs=0.02)
    result.save(tmp_path / "saved")
    loaded = tfbig.load(tmp_path / "saved" / "model.keras")
    assert quantizing_machine(loaded).calibrated
    images = np.concatenate([x for x, _ in data.test])
    np.testing.assert_array_equal(loaded(images), result.model(images))


def test_call_that_needs_values_is_refused_with_what_to_do(fresh_digits, tmp_path):
    data, model = fresh_digits(), subclassed(BranchesOnValues)
    with pytest.raises(InvalidModel, match="the call of BranchesOnValues cannot be traced symbolically. Call it once"):
        compress(model, tfbig.Prune(), train=data.train, test=data.test, verbose=0)
    model.save(tmp_path / "branches.keras")
    with pytest.raises(InvalidModel, match="comes without its weights: .*its call cannot be traced symbolically"):
        tfbig.load(tmp_path / "branches.keras")
