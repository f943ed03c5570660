"""Rebuilding models: what is carried over besides the weights that change."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from structure_models import MODELS, batch_of, outputs_of, randomised

from tfbig.compression.structure.surgery import Surgery, clone, copy_weights
from tfbig.errors import InvalidModel


def _copy(model: keras.Model) -> keras.Model:
    surgery = Surgery(lambda old: [clone(old)])
    new = surgery.rebuild(model)
    for old, (layer,) in surgery.pairs():
        if isinstance(old, keras.Layer):
            copy_weights(old, layer)
    return new


@pytest.mark.parametrize("name", MODELS)
def test_a_rebuilt_model_is_equal_and_shares_nothing(name):
    model = randomised(MODELS[name]())
    new = _copy(model)
    batch = batch_of(model)
    before = outputs_of(model, batch)
    for a, b in zip(outputs_of(new, batch), before, strict=True):
        np.testing.assert_array_equal(a, b)
    for weight in new.weights:
        weight.assign(np.zeros(weight.shape))
    for a, b in zip(outputs_of(model, batch), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_original_records_no_new_calls():
    inputs = keras.Input((4,))
    dense = layers.Dense(3)
    x = ops.relu(dense(inputs))
    model = keras.Model(inputs, x)
    activation = model.operations[-1]
    counts = len(dense._inbound_nodes), len(activation._inbound_nodes)
    _copy(model)
    assert (len(dense._inbound_nodes), len(activation._inbound_nodes)) == counts


def test_one_operation_may_become_several_also_inside_nested_models():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, name="inner")], name="nested")
    inputs = keras.Input((4,), name="in")
    model = keras.Model(inputs, layers.Dense(2, name="out")(inner(inner(inputs))))

    def replace(old):
        doubled = isinstance(old, layers.Dense)
        return [clone(old), layers.Rescaling(2.0, name=f"{old.name}_doubled")] if doubled else [clone(old)]

    surgery = Surgery(replace)
    new = surgery.rebuild(model)
    for old, successors in surgery.pairs():
        copy_weights(old, successors[0])
    batch = batch_of(model)
    expected = 2 * outputs_of(model, batch)[0]
    bias = model.get_layer("out").bias.numpy()
    expected = (outputs_of(model, batch)[0] - bias) * 8 + 2 * bias
    np.testing.assert_allclose(outputs_of(new, batch)[0], expected, rtol=1e-5)
    assert [x.name for x in new.get_layer("nested").layers] == ["inner", "inner_doubled"]


def test_a_vocabulary_is_carried_over():
    lookup = layers.StringLookup(name="words")
    lookup.adapt(["tree", "sea", "tree"])
    inputs = keras.Input((2,), dtype="string")
    model = keras.Model(inputs, layers.Embedding(3, 4)(lookup(inputs)))
    assert _copy(model).get_layer("words").get_vocabulary() == lookup.get_vocabulary()


class OwnCell(layers.SimpleRNNCell):
    """A class that Keras has not been told of."""


def test_functions_and_classes_of_ones_own_are_carried_over():
    inputs = keras.Input((5, 4))
    x = layers.Dense(6, activation=lambda x: ops.flip(x, -1))(inputs)
    x = layers.Lambda(lambda x: x * 2.0, name="twice")(layers.Activation(lambda x: x + 1.0)(x))
    model = randomised(keras.Model(inputs, layers.RNN(OwnCell(3))(x)))
    batch = batch_of(model)
    np.testing.assert_array_equal(outputs_of(_copy(model), batch)[0], outputs_of(model, batch)[0])


def test_inputs_keep_names_types_and_options():
    inputs = {
        "ids": keras.Input((5,), dtype="int32", name="ids"),
        "extra": keras.Input((5,), name="extra", optional=True),
    }
    model = keras.Model(inputs, layers.Embedding(9, 4)(inputs["ids"]))
    layer = _copy(keras.Model(inputs, {"e": model.output, "f": layers.Dense(2)(inputs["extra"])})).get_layer("extra")
    assert layer.optional and layer.batch_shape == (None, 5)


def test_weights_that_do_not_fit_are_an_error():
    old, new = layers.Dense(3, name="d"), layers.Dense(4)
    old.build((None, 2))
    new.build((None, 2))
    with pytest.raises(InvalidModel, match=r"Layer 'd' \(Dense\) cannot be rebuilt: its weights have the shapes"):
        copy_weights(old, new)
