"""Depth pruning: the shorter model is the original with the branch at zero, and the blocks that do least go first."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from keras import layers
from structure_models import MODELS, batch_of, outputs_of, pack_inputs, randomised

import tfbig
from tfbig.compression.structure.blocks import Residuals, influence
from tfbig.compression.structure.flops import flops
from tfbig.compression.structure.graph import flatten
from tfbig.errors import InvalidArgument, InvalidData, InvalidModel

X = np.random.default_rng(0).normal(size=(6, 8, 8, 8)).astype("float32")


def chain(blocks: int = 4, name: str = "chain") -> keras.Model:
    """Residual blocks of one convolution; those at the end add less and less."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((8, 8, 8))
    for number in range(1, blocks + 1):
        y = layers.Conv2D(8, 3, padding="same", name=f"conv_{number}")(x)
        x = layers.Add(name=f"add_{number}")([y, x] if number % 2 else [x, y])
    model = keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)), name=name)
    for number in range(1, blocks + 1):
        kernel = model.get_layer(f"conv_{number}").kernel
        kernel.assign(kernel / number**2)
    return model


def silenced(model: keras.Model, addition: keras.Operation, shortcut: int) -> None:
    """Zeroes the layer with weights that stands last in the branch: then the sum is the shortcut."""
    history = addition.input[1 - shortcut]._keras_history
    while not history.operation.weights:
        history = history.operation.input._keras_history
    for weight in history.operation.trainable_weights:
        weight.assign(keras.ops.zeros_like(weight))


@pytest.mark.parametrize("name", ["residual", "inverted_residual", "transformer"])
def test_equal_to_the_original_whose_branch_gives_zeros(name):
    model = randomised(MODELS[name]())
    inputs = batch_of(model)
    blocks = Residuals(flatten(model)).blocks
    shorter = tfbig.PruneBlocks(blocks=len(blocks), importance_data=[pack_inputs(model, inputs)]).prepare(model)
    before = outputs_of(model, inputs)
    for block in blocks:
        silenced(model, block.addition, block.shortcut)
    for expected, found, old in zip(outputs_of(model, inputs), outputs_of(shorter, inputs), before, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
        assert np.abs(found - old).max() > 1e-3
    assert shorter.count_params() < model.count_params()


@pytest.mark.parametrize("name", MODELS)
def test_costs_of_what_is_left_are_those_of_the_shorter_model(name):
    model = MODELS[name]()
    inputs = batch_of(model)
    shapes = [x.shape[1:] for x in inputs]
    residuals = Residuals(flatten(model, unknown=6))
    assert residuals.parameters() == model.count_params() and residuals.flops() == flops(model, input_shape=shapes)
    if residuals.blocks:
        technique = tfbig.PruneBlocks(blocks=len(residuals.blocks), importance_data=[pack_inputs(model, inputs)])
        shorter = technique.prepare(model)
        assert residuals.parameters(residuals.blocks) == shorter.count_params()
        assert residuals.flops(residuals.blocks) == flops(shorter, input_shape=shapes)


def test_influence_is_one_minus_the_cosine_of_what_enters_and_what_leaves():
    model = chain()
    blocks = Residuals(flatten(model)).blocks
    additions = [block.addition for block in blocks]
    assert [block.name for block in blocks] == ["add_1", "add_2", "add_3", "add_4"]
    taps = keras.Model(model.input, [(a.input[b.shortcut], a.output) for a, b in zip(additions, blocks, strict=True)])
    expected = []
    for before, after in taps(X):
        a, b = np.asarray(before, np.float64), np.asarray(after, np.float64)
        cosines = (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)
        expected.append(1 - cosines.mean())
    found = influence(model, blocks, [(X[:4], None), (X[4:], None)])
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    for one_batch in (X, (X, np.zeros(6))):
        np.testing.assert_allclose(influence(model, blocks, one_batch), found, rtol=1e-3)
    assert found == sorted(found, reverse=True)


def test_what_stays_zero_has_not_been_turned():
    x = inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Add()([x, layers.Dense(4, use_bias=False)(x)]))
    assert influence(model, Residuals(flatten(model)).blocks, np.zeros((2, 4), "float32")) == [0.0]


def test_the_least_influential_blocks_go():
    model = chain()
    shorter = tfbig.PruneBlocks(blocks=2, importance_data=X).prepare(model)
    assert [layer.name for layer in shorter.layers if layer.name.startswith("conv")] == ["conv_1", "conv_2"]
    np.testing.assert_array_equal(shorter.get_layer("conv_2").kernel, model.get_layer("conv_2").kernel)
    spared = tfbig.PruneBlocks(blocks=2, exclude=["conv_4"], importance_data=X).prepare(model)
    assert [layer.name for layer in spared.layers if layer.name.startswith("conv")] == ["conv_1", "conv_4"]


@pytest.mark.parametrize(("goal", "cost"), [("flops", flops), ("params", keras.Model.count_params)])
def test_a_share_is_met_with_the_fewest_blocks(goal, cost):
    model = chain()
    costs = [
        cost(tfbig.PruneBlocks(blocks=k, importance_data=X).prepare(model)) / cost(model) if k else 1.0
        for k in range(5)
    ]
    for share in (0.99, 0.76, 0.75, 0.5, costs[4] + 1e-6):
        shorter = tfbig.PruneBlocks(**{goal: share}, importance_data=X).prepare(model)
        assert cost(shorter) / cost(model) == max(c for c in costs if c <= share)


def test_latency_is_met_by_the_files():
    model = chain(6)
    shorter = tfbig.PruneBlocks(latency=0.7, importance_data=X).prepare(model)
    assert flops(shorter) < 0.9 * flops(model)


def test_nested_models_stay_nested_and_lose_their_blocks():
    inputs = keras.Input((8, 8, 8))
    body = chain(2, "body")
    inner = keras.Model(body.input, body.get_layer("add_2").output, name="inner")
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(inner(inner(inputs))))
    shorter = tfbig.PruneBlocks(blocks=1, importance_data=X).prepare(model)
    assert [layer.name for layer in shorter.get_layer("inner").layers if "conv" in layer.name] == ["conv_1"]
    assert shorter.count_params() == model.count_params() // 2
    empty = tfbig.PruneBlocks(blocks=2, importance_data=X).prepare(model)
    np.testing.assert_allclose(empty(X), X.mean((1, 2)), atol=1e-5)


def test_what_is_no_block_is_not_one():
    a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
    side_by_side = layers.Add()([layers.Dense(8)(a), layers.Dense(8)(a)])
    without_weights = layers.Add()([side_by_side, layers.Dropout(0.1)(side_by_side)])
    only_use_of_b = layers.Add()([without_weights, layers.Dense(8)(layers.Concatenate()([without_weights, b]))])
    broadcast = layers.Add()([only_use_of_b, layers.Dense(1)(only_use_of_b)])
    assert Residuals(flatten(keras.Model([a, b], broadcast))).blocks == ()


def test_what_several_blocks_share_stays():
    """Each of them could go; without both, an input would lead nowhere, and the embedding would be gone."""
    x = inputs = keras.Input((8,), name="x")
    extra = keras.Input((3,), name="extra")
    shift = layers.Dense(8, name="embed")(extra)
    for _ in range(2):
        x = layers.Add()([x, layers.Dense(8)(layers.Multiply()([x, shift]))])
    model = keras.Model([inputs, extra], x, name="film")
    data = [[np.ones((4, 8), "float32"), np.ones((4, 3), "float32")]]
    assert len(tfbig.PruneBlocks(blocks=1, importance_data=data).prepare(model).inputs) == 2
    with pytest.raises(InvalidArgument, match="it has 1 residual blocks that can be removed"):
        tfbig.PruneBlocks(blocks=2, importance_data=data).prepare(model)


def test_an_addition_that_is_called_in_other_ways_too_stays():
    add, x = layers.Add(), keras.Input((8,))
    y = add([x, layers.Dense(8)(x)])
    model = keras.Model(x, add([y, layers.Dense(8)(y), layers.Dense(8)(y)]))
    assert Residuals(flatten(model)).blocks == ()


def test_applications_have_their_blocks():
    for name, count in {"MobileNetV2": 10, "ResNet50": 12, "EfficientNetB0": 9, "Xception": 8}.items():
        model = getattr(keras.applications, name)(weights=None, input_shape=(96, 96, 3))
        assert len(Residuals(flatten(model)).blocks) == count, name


OPTIONS = [
    (
        {},
        "needs one of `blocks`, the number to remove, and `flops`, `params` and `latency`, the share to keep in (0, 1]",
    ),
    ({"blocks": 1, "flops": 0.5}, "received blocks=1, flops=0.5, params=None, latency=None."),
    ({"blocks": 0}, "`blocks` must be a whole number of at least 1, received 0."),
    ({"blocks": 1.5}, "`blocks` must be a whole number of at least 1, received 1.5."),
    ({"flops": 1.5}, "`flops` must be in (0, 1], received 1.5."),
    ({"latency": 0.5, "latency_of": "int7"}, "Unknown value of `latency_of`: 'int7'"),
    ({"blocks": 1, "exclude": "conv"}, "`exclude` must be a list of layer names, received 'conv'."),
]


@pytest.mark.parametrize(("options", "text"), OPTIONS)
def test_a_bad_option_is_named(options, text):
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        tfbig.PruneBlocks(**options)


GOALS = [
    ({"blocks": 5}, "`blocks`=5 cannot be met for 'chain': it has 4 residual blocks that can be removed. Ask for"),
    ({"params": 0.001}, "`params`=0.001 cannot be met for 'chain': without all of its 4 residual blocks that can be"),
    ({"blocks": 1, "exclude": ["conv_5"]}, "Unknown layer in `exclude` 'conv_5'"),
]


@pytest.mark.parametrize(("options", "text"), GOALS)
def test_a_goal_out_of_reach_names_the_nearest(options, text):
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        tfbig.PruneBlocks(**options, importance_data=X).prepare(chain())


def test_the_nearest_share_works():
    model = chain()
    with pytest.raises(InvalidArgument) as caught:
        tfbig.PruneBlocks(flops=1e-5, importance_data=X).prepare(model)
    offered = float(re.search(r"Ask for flops=(\d\.\d+)", str(caught.value))[1])
    assert flops(tfbig.PruneBlocks(flops=offered, importance_data=X).prepare(model)) <= offered * flops(model)


def test_data_is_needed():
    with pytest.raises(InvalidArgument, match=r"needs `importance_data`, batches of \(x, y\) or of x.*received None"):
        tfbig.PruneBlocks(blocks=1).prepare(chain())
    with pytest.raises(InvalidData, match="`importance_data` must yield at least one batch, received none."):
        tfbig.PruneBlocks(blocks=1, importance_data=[]).prepare(chain())


def test_a_model_without_blocks_is_an_error():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(4)], name="plain")
    with pytest.raises(InvalidModel, match="finds no residual block to remove in 'plain'.*Use PruneChannels"):
        tfbig.PruneBlocks(blocks=1, importance_data=X).prepare(model)
