"""Multiplying with one number changes the scale of a tensor and not its integers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfbig.compression.native.graph import flatten
from tfbig.compression.native.points import factor_of, plan


@pytest.mark.parametrize(
    "number", [0.25, np.float32(0.25), np.array(0.25, "float32"), tf.constant(0.25)], ids=lambda n: type(n).__name__
)
def test_the_scale_follows_a_number_of_any_kind(number):
    inputs = keras.Input((4,))
    dense = keras.layers.Dense(3)(inputs)
    graph = flatten(keras.Model(inputs, keras.ops.multiply(dense, number)))
    assert [factor_of(step) for step in graph.steps] == [None, 0.25]
    points = plan(graph).scale_of
    before, after = (points[step.outputs[0]] for step in graph.steps)
    assert (before.index, before.factor, after.index, after.factor) == (before.index, 1.0, before.index, 0.25)


def test_the_query_of_attention_is_rounded_once():
    inputs = keras.Input((5, 8))
    graph = flatten(keras.Model(inputs, keras.layers.MultiHeadAttention(2, 4)(inputs, inputs)))
    assert [round(f, 6) for f in map(factor_of, graph.steps) if f is not None] == [0.5]


def test_a_tensor_of_several_numbers_is_no_factor():
    inputs = keras.Input((4,))
    graph = flatten(keras.Model(inputs, keras.ops.multiply(inputs, tf.constant([1.0, 2.0, 3.0, 4.0]))))
    assert factor_of(graph.steps[0]) is None
