"""What LowRank says to bad options and to models with nothing to factor."""

from __future__ import annotations

import re

import keras
import pytest
from keras import layers

import tfbig
from tfbig.compression.structure.flops import flops
from tfbig.errors import InvalidArgument, InvalidModel

OPTIONS = [
    ({}, "LowRank needs one of `rank`, `energy` and `flops`, each a share in (0, 1]; received none."),
    ({"rank": 0.5, "energy": 0.9}, "received {'rank': 0.5, 'energy': 0.9}."),
    ({"rank": 0}, "`rank` must be in (0, 1], received 0."),
    ({"rank": 1.01}, "`rank` must be in (0, 1], received 1.01."),
    ({"rank": 16}, "`rank` must be in (0, 1], received 16."),
    ({"energy": 0.0}, "`energy` must be in (0, 1], received 0.0."),
    ({"flops": -0.5}, "`flops` must be in (0, 1], received -0.5."),
    ({"rank": 0.5, "exclude": "dense"}, "`exclude` must be a list of layer names, received 'dense'."),
]


def _model() -> keras.Model:
    return keras.Sequential([keras.Input((16,)), layers.Dense(16, name="wide"), layers.Dense(2)], name="small")


@pytest.mark.parametrize(("options", "text"), OPTIONS)
def test_a_bad_option_is_named(options, text):
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        tfbig.LowRank(**options)


def test_a_goal_out_of_reach_names_the_nearest_which_then_works():
    with pytest.raises(InvalidArgument, match="`flops`=0.1 cannot be met for 'small': at rank 1 everywhere") as caught:
        tfbig.LowRank(flops=0.1).prepare(_model())
    offered = float(re.search(r"Ask for flops=(\d\.\d+)", str(caught.value))[1])
    assert flops(tfbig.LowRank(flops=offered).prepare(_model())) <= offered * flops(_model())


def test_nothing_that_saves_is_an_error():
    text = "LowRank(rank=0.9) finds nothing to factor usefully in 'small': none of its 2 Dense,"
    with pytest.raises(InvalidModel, match=re.escape(text)):
        tfbig.LowRank(rank=0.9).prepare(_model())


@pytest.mark.parametrize("options", [{"rank": 0.5}, {"energy": 0.5}, {"flops": 0.5}])
def test_a_model_without_such_layers_is_an_error(options):
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.DepthwiseConv2D(3)], name="deep")
    with pytest.raises(InvalidModel, match="finds nothing to factor in 'deep': it takes Dense, Embedding and"):
        tfbig.LowRank(**options).prepare(model)


def test_an_unknown_excluded_layer_gets_the_nearest_name():
    with pytest.raises(InvalidArgument, match="Unknown layer in `exclude` 'wides'.*Did you mean 'wide'?"):
        tfbig.LowRank(rank=0.5, exclude=("wides",)).prepare(_model())


def test_a_subclassed_model_is_told_what_is_needed():
    class Custom(keras.Model):
        pass

    with pytest.raises(InvalidModel, match="LowRank needs a Functional or Sequential model"):
        tfbig.LowRank(rank=0.5).prepare(Custom())


def test_a_model_that_is_not_built_is_told_how():
    with pytest.raises(InvalidModel, match="LowRank needs a built model; 'open' has no input shape yet"):
        tfbig.LowRank(rank=0.5).prepare(keras.Sequential([layers.Dense(4)], name="open"))
