"""The FLOPs counter against counts by hand."""

from __future__ import annotations

import keras
import pytest
from keras import layers, ops
from structure_models import MODELS

from tfbig.compression.structure.flops import flops, macs, uncounted
from tfbig.errors import InvalidArgument, InvalidModel


def _model(shape: tuple[int, ...], *stack) -> keras.Model:
    x = inputs = keras.Input(shape)
    for layer in stack:
        x = layer(x)
    return keras.Model(inputs, x)


def _attention(x):
    return layers.MultiHeadAttention(4, 5, value_dim=6)(x, x)


def _grouped(x):
    return layers.GroupQueryAttention(5, 4, 2)(x, x)


COUNTS = [
    ("dense", (7,), layers.Dense(5), 7 * 5),
    ("dense on a sequence", (4, 7), layers.Dense(5), 4 * 7 * 5),
    ("same convolution", (8, 6, 3), layers.Conv2D(5, 3, padding="same"), 8 * 6 * 9 * 3 * 5),
    ("valid and strided", (9, 9, 3), layers.Conv2D(5, (3, 1), strides=2), 4 * 5 * 3 * 3 * 5),
    ("dilated", (9, 9, 3), layers.Conv2D(5, 3, dilation_rate=2), 5 * 5 * 9 * 3 * 5),
    ("grouped", (8, 8, 6), layers.Conv2D(4, 3, groups=2, padding="same"), 64 * 9 * 3 * 4),
    ("one dimension", (8, 3), layers.Conv1D(5, 3), 6 * 3 * 3 * 5),
    ("three dimensions", (4, 4, 4, 2), layers.Conv3D(3, 2), 27 * 8 * 2 * 3),
    ("depthwise", (8, 8, 3), layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same"), 64 * 9 * 3 * 2),
    ("separable", (8, 8, 3), layers.SeparableConv2D(5, 3, strides=2, padding="same"), 16 * (9 * 3 + 3 * 5)),
    ("transposed", (4, 4, 3), layers.Conv2DTranspose(5, 3, strides=2, padding="same"), 16 * 9 * 3 * 5),
    ("einsum", (4, 7), layers.EinsumDense("abc,cde->abde", (None, 2, 3)), 4 * 7 * 2 * 3),
    ("einsum with ellipsis", (2, 4, 7), layers.EinsumDense("...c,cd->...d", 3), 2 * 4 * 7 * 3),
    # Query, key and value projections, the output projection, scores and weighted sum.
    ("attention", (7, 8), _attention, 7 * 8 * 4 * (5 + 5 + 6) + 7 * 4 * 6 * 8 + 7 * 7 * 4 * (5 + 6)),
    ("grouped attention", (7, 8), _grouped, 7 * 8 * (20 + 10 + 10) + 7 * 20 * 8 + 2 * 7 * 7 * 4 * 5),
    ("matmul", (3, 4, 5), lambda x: ops.matmul(x, ops.transpose(x, (0, 1, 3, 2))), 3 * 4 * 5 * 4),
    ("ops.einsum", (4, 5), lambda x: ops.einsum("bij,bkj->bik", x, x), 4 * 4 * 5),
    ("dot", (4, 5), lambda x: layers.Dot(axes=2)([x, x]), 4 * 4 * 5),
    ("dot-product attention", (7, 4, 5), lambda x: ops.dot_product_attention(x, x, x), 2 * 7 * 7 * 4 * 5),
    ("attention layer", (7, 5), lambda x: layers.Attention()([x, x]), 2 * 7 * 7 * 5),
    ("lstm", (6, 3), layers.LSTM(4), 6 * (3 + 4) * 16),
    ("gru", (6, 3), layers.GRU(4), 6 * (3 + 4) * 12),
    ("both directions", (6, 3), layers.Bidirectional(layers.SimpleRNN(4)), 2 * 6 * (3 + 4) * 4),
    ("every step", (6, 8, 8, 3), layers.TimeDistributed(layers.Conv2D(2, 3)), 6 * 36 * 27 * 2),
    ("not counted", (8, 8, 3), layers.BatchNormalization(), 0),
]


@pytest.mark.parametrize(("shape", "layer", "expected"), [c[1:] for c in COUNTS], ids=[c[0] for c in COUNTS])
def test_a_layer_costs_what_counting_by_hand_says(shape, layer, expected):
    model = _model(shape, layer)
    assert macs(model) == expected
    assert flops(model) == 2 * expected


def test_shared_and_nested_layers_are_counted_in_every_call():
    dense = layers.Dense(4)
    inner = _model((4,), dense, dense)
    model = _model((4,), inner, layers.ReLU(), inner, layers.Dense(3))
    assert macs(model) == 4 * 16 + 12


def test_a_nested_model_is_counted_at_the_size_it_is_called_with():
    backbone = _model((None, None, 3), layers.Conv2D(4, 1))
    assert macs(_model((8, 8, 3), backbone)) == 64 * 12
    assert macs(backbone, input_shape=(5, 6, 3)) == 30 * 12


def test_steps_merged_into_the_batch_are_counted():
    assert macs(_model((6, 4), lambda x: ops.reshape(x, (-1, 4)), layers.Dense(2))) == 6 * 8


@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_the_pruning_tests_are_counted_whole(name):
    assert uncounted(MODELS[name]()) == []


def test_layers_that_are_not_counted_are_named():
    model = _model((6, 8, 8, 3), layers.ConvLSTM2D(2, 3, name="storm"))
    assert uncounted(model) == ["'storm' (ConvLSTM2D)"]


def test_open_sizes_need_an_input_shape():
    model = keras.Model(x := keras.Input((None, None, 3)), layers.Conv2D(4, 1)(x), name="open")
    with pytest.raises(InvalidArgument, match=r"'open' leaves sizes of its input open: \[\[None, None, 3\]\]. Pass"):
        flops(model)


def test_an_input_shape_must_fit():
    with pytest.raises(InvalidArgument, match=r"`input_shape` must fit the model's \[\[8\]\], received \(9,\)"):
        flops(_model((8,), layers.Dense(2)), input_shape=(9,))


def test_a_model_without_a_graph_cannot_be_counted():
    class Custom(keras.Model):
        pass

    with pytest.raises(InvalidModel, match="Counting FLOPs needs a Functional or Sequential model"):
        flops(Custom())
