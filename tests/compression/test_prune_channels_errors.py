"""What PruneChannels says to bad options and to models that it cannot follow."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers, ops
from structure_models import batch_of, outputs_of, randomised

import tfbig
from tfbig.compression.structure.flops import flops
from tfbig.errors import InvalidArgument, InvalidData, InvalidModel


def _small(*before_flatten: layers.Layer) -> keras.Model:
    stack = [keras.Input((8, 8, 3)), layers.Conv2D(16, 3, name="conv"), *before_flatten]
    return randomised(keras.Sequential([*stack, layers.Flatten(), layers.Dense(2)], name="small"))


@keras.saving.register_keras_serializable("tests")
class Reversed(layers.Layer):
    """Something no rule covers: the channels in the opposite order."""

    def call(self, inputs):
        return ops.flip(inputs, axis=-1)


@keras.saving.register_keras_serializable("tests")
class WithoutConfig(layers.Layer):
    """A layer that cannot be made from its configuration."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


OPTIONS = [
    (
        {},
        "PruneChannels needs one of `flops`, `params` and `latency`, the share to keep in (0, 1]; received flops=None",
    ),
    ({"flops": 0.5, "latency": 0.5}, "received flops=0.5, params=None, latency=0.5"),
    ({"latency": 1.5}, "`latency`"),
    ({"latency": 0.5, "latency_of": "int9"}, "Did you mean 'int8'"),
    ({"flops": 0.5, "params": 0.5}, "received flops=0.5, params=0.5, latency=None."),
    ({"flops": 0}, "`flops` must be in (0, 1], received 0."),
    ({"flops": 1.5}, "`flops` must be in (0, 1], received 1.5."),
    ({"params": -1}, "`params` must be in (0, 1], received -1."),
    ({"flops": "half"}, "`flops` must be in (0, 1], received 'half'."),
    (
        {"flops": 0.5, "importance": "l3"},
        "`importance` must be one of 'l1', 'l2', 'batch_norm', 'taylor', received 'l3'.",
    ),
    ({"flops": 0.5, "allocation": "local"}, "`allocation` must be one of 'global', 'uniform', received 'local'."),
    ({"flops": 0.5, "floor": 2}, "`floor` must be in [0, 1], received 2."),
    ({"flops": 0.5, "round_to": 0}, "`round_to` must be a whole number of at least 1, received 0."),
    ({"flops": 0.5, "exclude": "conv"}, "`exclude` must be a list of layer names, received 'conv'."),
]


@pytest.mark.parametrize(("options", "text"), OPTIONS)
def test_a_bad_option_is_named(options, text):
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        tfbig.PruneChannels(**options)


def test_a_bad_number_of_steps_is_named():
    with pytest.raises(InvalidArgument, match="`count` must be a whole number of at least 1, received 0."):
        tfbig.PruneChannels(flops=0.5).in_steps(0)


def test_an_unknown_excluded_layer_gets_the_nearest_name():
    with pytest.raises(InvalidArgument, match="Unknown layer in `exclude` 'cnov'.*Did you mean 'conv'?"):
        tfbig.PruneChannels(flops=0.5, exclude=("cnov",)).prepare(_small())


def test_a_goal_out_of_reach_names_the_nearest_which_then_works():
    with pytest.raises(InvalidArgument, match="`flops`=0.1 cannot be met for 'small'") as caught:
        tfbig.PruneChannels(flops=0.1).prepare(_small())
    text = str(caught.value)
    assert "with floor=0.1 and round_to=8 the smallest share that can be reached is 0.500" in text
    assert "or lower `floor` or `round_to`" in text
    offered = float(re.search(r"Ask for flops=(\d\.\d+)", text)[1])
    assert flops(tfbig.PruneChannels(flops=offered).prepare(_small())) <= offered * flops(_small())


def test_a_layer_that_is_not_understood_is_named_and_never_cut():
    model = _small(Reversed(name="mirror"))
    with pytest.raises(
        InvalidModel, match=r"Layers that are not understood, .*: 'mirror' \(Reversed\)\. Ask for flops=1"
    ):
        tfbig.PruneChannels(flops=0.5).prepare(model)


def test_what_lies_apart_from_a_layer_that_is_not_understood_is_still_pruned():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, activation="relu", name="free")(inputs)
    x = Reversed()(layers.Conv2D(8, 3, name="held")(x))
    model = randomised(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    plan = tfbig.PruneChannels(flops=0.6).plan(model)
    assert plan.widths() == {"free": (16, 8)}
    batch = batch_of(model)
    np.testing.assert_allclose(
        outputs_of(plan.apply(model), batch)[0], outputs_of(plan.mask(model), batch)[0], atol=1e-5
    )


MIXED = {
    "softmax over channels": layers.Softmax(),
    "normalization over channels": layers.LayerNormalization(),
}


@pytest.mark.parametrize("name", ["softmax over channels", "normalization over channels"])
def test_channels_that_a_layer_mixes_stay(name):
    model = _small(MIXED[name])
    with pytest.raises(InvalidArgument, match="the smallest share that can be reached is 1.000"):
        tfbig.PruneChannels(flops=0.5).prepare(model)


def test_a_lambda_layer_is_not_understood():
    model = _small(layers.Lambda(lambda x: x * 2.0, name="mystery"))
    with pytest.raises(InvalidModel, match=r"'mystery' \(Lambda\)"):
        tfbig.PruneChannels(flops=0.5).prepare(model)


def test_an_activation_of_ones_own_is_not_understood():
    model = _small(layers.Conv2D(16, 1, activation=lambda x: ops.flip(x, -1), name="odd"))
    with pytest.raises(InvalidModel, match=r"'odd' \(Conv2D\)"):
        tfbig.PruneChannels(flops=0.2).prepare(model)


def test_a_layer_that_cannot_be_rebuilt_is_named():
    inputs = keras.Input((8,))
    x = WithoutConfig(lambda x: x, name="closed")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(16)(x)))
    with pytest.raises(
        InvalidModel, match=r"'closed' \(WithoutConfig\) cannot be rebuilt from its configuration; give"
    ):
        tfbig.PruneChannels(flops=0.5).prepare(model)


def test_a_subclassed_model_is_told_what_is_needed():
    class Custom(keras.Model):
        pass

    with pytest.raises(InvalidModel) as caught:
        tfbig.PruneChannels(flops=0.5).prepare(Custom(name="mine"))
    text = str(caught.value)
    assert "PruneChannels needs a Functional or Sequential model" in text
    assert "received 'mine', a subclassed model (Custom)" in text
    assert "Build it as keras.Model(inputs, outputs)" in text


def test_a_model_that_is_not_built_is_told_how():
    model = keras.Sequential([layers.Dense(16), layers.Dense(2)], name="open")
    with pytest.raises(InvalidModel, match=r"'open' has no input shape yet. Start it with keras.Input\(shape\)"):
        tfbig.PruneChannels(flops=0.5).prepare(model)


def test_a_model_without_work_to_save_is_named():
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.MaxPooling2D(2)], name="pool")
    with pytest.raises(InvalidModel, match="PruneChannels finds no FLOPs in 'pool': it has no layer that"):
        tfbig.PruneChannels(flops=0.5).prepare(model)


def test_something_else_is_not_a_model():
    with pytest.raises(InvalidModel, match=r"needs a Keras 3 model, received str. Load the model with tfbig.load"):
        tfbig.PruneChannels(flops=0.5).prepare("model.keras")


def test_batch_norm_importance_needs_batch_norm():
    with pytest.raises(InvalidModel, match="`importance='batch_norm'` needs a BatchNormalization layer with a scale"):
        tfbig.PruneChannels(flops=0.5, importance="batch_norm").prepare(_small())


X, Y = np.zeros((2, 8, 8, 3), "float32"), np.zeros(2, "int64")
LOSS = "sparse_categorical_crossentropy"
TAYLOR = [
    ({"loss": LOSS}, InvalidArgument, "needs `importance_data`, batches of (x, y) to take gradients on; received None"),
    ({"importance_data": [(X, Y)]}, InvalidArgument, "needs a loss, and the model is not compiled"),
    ({"importance_data": [], "loss": LOSS}, InvalidData, "must yield at least one batch of (x, y), received none"),
    ({"importance_data": [X], "loss": LOSS}, InvalidData, "must yield batches of (x, y), received a batch without"),
]


@pytest.mark.parametrize(("options", "error", "text"), TAYLOR)
def test_taylor_says_what_it_needs(options, error, text):
    with pytest.raises(error, match=re.escape(text)):
        tfbig.PruneChannels(flops=0.6, importance="taylor", **options).prepare(_small())


def test_layers_that_need_all_their_channels_are_named():
    inputs = keras.Input((16, 4))
    y = layers.ReLU()(layers.LayerNormalization(name="norm")(layers.Conv1D(16, 3, name="conv")(inputs)))
    model = keras.Model(inputs, layers.Dense(3)(layers.LSTM(16, name="lstm")(y)), name="sequences")
    with pytest.raises(InvalidArgument) as error:
        tfbig.PruneChannels(flops=0.6).prepare(model)
    assert "Channels stay where each depends on all others: 'norm' (LayerNormalization), 'lstm' (LSTM)." in str(
        error.value
    )
    assert str(error.value).endswith("or use LowRank, Prune or Quantize, which leave widths as they are.")
