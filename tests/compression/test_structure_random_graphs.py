"""Random convolutional graphs: whatever hangs together, the smaller model equals the masked one."""

from __future__ import annotations

import keras
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops
from structure_models import batch_of, outputs_of, randomised

import tfbig
from tfbig.errors import InvalidArgument

STEPS = ("conv", "grouped", "depthwise", "norm", "sigmoid", "add", "concat", "gate", "halves", "shuffle")


def _step(kind: str, tensors: list, pick: int):
    x = tensors[pick % len(tensors)]
    width = x.shape[-1]
    partners = [y for y in tensors if y.shape[-1] == width]
    other = partners[pick % len(partners)]
    if kind == "conv":
        return layers.Conv2D(8 * (1 + pick % 3), 3, padding="same", activation="relu")(x)
    if kind == "grouped":
        return layers.Conv2D(16, 1, groups=(2, 4, 8)[pick % 3])(x) if width % 8 == 0 else x
    if kind == "depthwise":
        return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1 + pick % 2)(x)
    if kind == "norm":
        return layers.BatchNormalization()(x)
    if kind == "sigmoid":
        return ops.sigmoid(x)
    if kind == "add":
        return layers.Add()([x, layers.Conv2D(width, 1)(other)])
    if kind == "concat":
        return layers.Concatenate()([x, other])
    if kind == "gate":
        return x * ops.mean(other, axis=(1, 2), keepdims=True)
    if kind == "halves":
        first, second = ops.split(x, 2, axis=-1)
        return ops.concatenate([second, first], axis=-1)
    shuffled = layers.Permute((1, 2, 4, 3))(layers.Reshape((4, 4, 2, width // 2))(x))
    return layers.Reshape((4, 4, width))(shuffled)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 7)), min_size=2, max_size=9),
    goal=st.sampled_from([0.3, 0.6, 0.9]),
    round_to=st.sampled_from([1, 2, 8]),
)
def test_a_random_graph_is_cut_right(steps, goal, round_to):
    inputs = keras.Input((4, 4, 3))
    tensors = [layers.Conv2D(16, 3, padding="same")(inputs)]
    for kind, pick in steps:
        tensors.append(_step(kind, tensors, pick))
    model = randomised(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(tensors[-1]))))
    technique = tfbig.PruneChannels(flops=goal, round_to=round_to)
    try:
        plan = technique.plan(model)
    except InvalidArgument as error:
        assert "cannot be met" in str(error)
        return
    assert not plan.dependencies.not_understood
    batch = batch_of(model)
    smaller, masked = outputs_of(plan.apply(model), batch)[0], outputs_of(plan.mask(model), batch)[0]
    scale = max(1.0, float(np.abs(masked).max()))
    np.testing.assert_allclose(smaller / scale, masked / scale, atol=1e-5)
