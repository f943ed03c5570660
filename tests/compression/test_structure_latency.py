"""A goal of latency: which models are timed, and that the file is as fast as was asked."""

from __future__ import annotations

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tfbig
from tfbig.compression.structure.flops import flops
from tfbig.compression.structure.latency import Timed, slowest_within, stopwatches
from tfbig.errors import InvalidArgument


@given(goal=st.floats(0.05, 1), overhead=st.floats(0, 0.5), smallest=st.floats(0, 0.4), power=st.floats(0.5, 1.5))
def test_goal_is_kept_and_nearly_used(goal, overhead, smallest, power):
    def latency(share):
        return overhead + (1 - overhead) * share**power

    def timed(share):
        share = max(share, smallest)
        return Timed(share, share, latency(share))

    found = slowest_within(goal, timed)
    assert found.subject == found.flops and found.latency == latency(found.flops)
    if latency(smallest) > goal:
        assert found.latency > goal
    elif found.latency <= goal:
        reachable = ((goal - overhead) / (1 - overhead)) ** (1 / power)
        assert found.flops >= 0.8 * reachable or reachable < 0.2  # Six trials are few for the smallest ones.


def test_first_trial_is_the_last_where_latency_follows_the_multiplications():
    tried = []

    def timed(share):
        tried.append(share)
        return Timed(None, share, share)

    slowest_within(0.5, timed)
    assert tried == [0.5]


@pytest.fixture(scope="module")
def model():
    """Few numbers go in and much is multiplied: that is what takes the time, also with matrix units for integers."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((16, 16, 4))
    for number in range(4):
        x = keras.layers.Conv2D(192, 3, padding="same", activation="relu", name=f"conv_{number}")(x)
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize("kind", stopwatches.names())
def test_file_takes_the_share_of_the_time(model, kind):
    # Half is more than matrix units leave to be had of some integer files, whatever is pruned.
    smaller = tfbig.PruneChannels(latency=0.7, latency_of=kind).prepare(model)
    assert flops(smaller) < 0.9 * flops(model)
    with stopwatches[kind].shares(model) as share:
        assert share(smaller) < 0.9


def test_share_that_cannot_be_reached_names_the_nearest(model):
    with pytest.raises(InvalidArgument, match=r"`latency`=0.001 cannot be met .* smallest share .* Ask for latency=0"):
        tfbig.PruneChannels(latency=0.001).prepare(model)


def test_recipe_holds_the_goal():
    recipe = tfbig.Recipe([tfbig.PruneChannels(latency=0.5, latency_of="int8")])
    assert tfbig.Recipe.from_yaml(recipe.to_yaml()) == recipe
