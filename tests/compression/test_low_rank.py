"""LowRank: errors are what the singular values say, and plain smaller layers come out."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers
from structure_models import MODELS, batch_of, outputs_of, randomised

import tfbig
from tfbig.compression.structure.factorization import Choice, Factorization
from tfbig.compression.structure.factors import (
    ChannelFactors,
    DenseFactors,
    EmbeddingFactors,
    Factoring,
    SpatialFactors,
    TuckerFactors,
)
from tfbig.compression.structure.flops import flops, macs
from tfbig.compression.structure.graph import flatten
from tfbig.compression.structure.spectrum import Spectrum


def _model(shape: tuple[int, ...], layer: keras.Layer, dtype: str = "float32") -> keras.Model:
    inputs = keras.Input(shape, dtype=dtype)
    return randomised(keras.Model(inputs, layer(inputs)))


def _way(kind: type[Factoring], model: keras.Model) -> Factoring:
    call = next(call for call in flatten(model).calls if call.operation is model.layers[-1])
    return kind(call.operation, ((tuple(call.inputs[0].shape), tuple(call.outputs[0].shape)),))


def _squares(matrix: np.ndarray) -> np.ndarray:
    return np.linalg.svd(matrix.astype(np.float64), compute_uv=False) ** 2


def _channel(kernel, ranks):
    return _squares(kernel.reshape(-1, kernel.shape[-1]))[ranks[0] :].sum()


def _spatial(kernel, ranks):
    height, width, entering, leaving = kernel.shape
    matrix = kernel.transpose(0, 2, 1, 3).reshape(height * entering, width * leaving)
    return _squares(matrix)[ranks[0] :].sum()


def _tucker(kernel, ranks):
    inner, outer = ranks
    unfolded = kernel.reshape(-1, kernel.shape[-1]).astype(np.float64)
    _, values, basis = np.linalg.svd(unfolded, full_matrices=False)
    core = (unfolded @ basis[:outer].T).reshape(*kernel.shape[:-1], outer)
    rest = _squares(np.moveaxis(core, -2, -1).reshape(-1, kernel.shape[-2]))
    return (values[outer:] ** 2).sum() + rest[inner:].sum()


CONV = {"activation": "relu", "padding": "same"}
CASES = {
    "dense": (DenseFactors, (20,), layers.Dense(12, activation="tanh"), (5,), None),
    "dense, wide": (DenseFactors, (4, 9), layers.Dense(30, use_bias=False), (3,), None),
    "embedding": (EmbeddingFactors, (6,), layers.Embedding(10, 8, mask_zero=True), (3,), None),
    "channel": (ChannelFactors, (9, 9, 4), layers.Conv2D(10, 3, strides=2, **CONV), (4,), _channel),
    "channel, 1x1": (ChannelFactors, (5, 5, 12), layers.Conv2D(10, 1), (4,), _channel),
    "channel, 1d": (ChannelFactors, (9, 4), layers.Conv1D(10, 3, padding="causal"), (4,), _channel),
    "channel, 3d": (ChannelFactors, (4, 4, 4, 3), layers.Conv3D(8, 2), (4,), _channel),
    "spatial": (SpatialFactors, (9, 8, 4), layers.Conv2D(6, (3, 5), strides=(1, 2), **CONV), (5,), _spatial),
    "spatial, dilated": (SpatialFactors, (9, 8, 4), layers.Conv2D(6, 3, dilation_rate=2), (5,), _spatial),
    "tucker": (TuckerFactors, (9, 9, 6), layers.Conv2D(10, 3, strides=2, **CONV), (3, 4), _tucker),
    "tucker, few inputs": (TuckerFactors, (9, 9, 2), layers.Conv2D(40, 2), (2, 7), _tucker),
    "tucker, 1d": (TuckerFactors, (9, 6), layers.Conv1D(10, 3), (3, 4), _tucker),
}


@pytest.mark.parametrize(("kind", "shape", "layer", "ranks", "reference"), CASES.values(), ids=CASES)
class TestOneLayer:
    """Each way to factor, at a low and at the full rank."""

    @staticmethod
    def _fresh(shape: tuple[int, ...], layer: keras.Layer) -> keras.Model:
        copy = type(layer).from_config(layer.get_config())
        return _model(shape, copy, "int32" if isinstance(layer, layers.Embedding) else "float32")

    @staticmethod
    def _composed(kind: type[Factoring], parts: list[np.ndarray]) -> np.ndarray:
        """The kernel that the factors stand for, by NumPy."""
        if kind is SpatialFactors:
            return np.einsum("hxir,ywro->hwio", *parts)
        if kind is TuckerFactors:
            first, core, last = parts
            return np.einsum(
                "ir,...rs,so->...io",
                first.squeeze((*range(first.ndim - 2),)),
                core,
                last.squeeze((*range(last.ndim - 2),)),
            )
        return parts[0] @ parts[1].reshape(parts[1].shape[-2:])

    def test_the_squared_error_is_the_sum_of_what_is_dropped(self, kind, shape, layer, ranks, reference):
        model = self._fresh(shape, layer)
        way = _way(kind, model)
        kernel = model.layers[-1].weights[0].numpy()
        composed = self._composed(kind, [weights[0] for weights in way.weights(ranks)])
        error = float(np.square(composed - kernel).sum())
        expected = reference(kernel, ranks) if reference else _squares(kernel)[ranks[0] :].sum()
        assert error == pytest.approx(expected, rel=1e-4)
        assert way.error(ranks) == pytest.approx(expected, rel=1e-4)

    def test_the_new_layers_compute_the_product_with_bias_and_activation(self, kind, shape, layer, ranks, reference):
        model = self._fresh(shape, layer)
        way = _way(kind, model)
        smaller = Factorization({"it": Choice(way, ranks)}).apply(model)
        last = model.layers[-1]
        assert smaller.layers[-1].name == last.name
        assert way.params(ranks) == sum(np.prod(w.shape) for w in smaller.weights if w.name != "bias")
        assert way.macs(ranks) == macs(smaller) and way.full_macs == macs(model)
        last.weights[0].assign(self._composed(kind, [weights[0] for weights in way.weights(ranks)]))
        batch = batch_of(model)
        np.testing.assert_allclose(outputs_of(smaller, batch)[0], outputs_of(model, batch)[0], atol=1e-4)

    def test_the_full_rank_loses_nothing(self, kind, shape, layer, ranks, reference):
        model = self._fresh(shape, layer)
        way = _way(kind, model)
        full = way.ranks_of_share(1.0)
        assert way.error(full) == pytest.approx(0.0, abs=1e-5)
        smaller = Factorization({"it": Choice(way, full)}).apply(model)
        batch = batch_of(model)
        np.testing.assert_allclose(outputs_of(smaller, batch)[0], outputs_of(model, batch)[0], atol=1e-4)

    def test_energy_gives_the_smallest_ranks_that_keep_it(self, kind, shape, layer, ranks, reference):
        way = _way(kind, self._fresh(shape, layer))
        kernel = way.layer.weights[0].numpy()
        total = float(np.square(kernel).sum())
        chosen = way.ranks_of_energy(0.8)
        assert way.error(chosen) <= 0.2 * total * (1 + 1e-6)
        if len(chosen) == 1 and chosen[0] > 1:
            assert way.error((chosen[0] - 1,)) > 0.2 * total


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99))
def test_a_spectrum_agrees_with_the_full_decomposition(rows, columns, seed):
    matrix = np.random.default_rng(seed).normal(size=(rows, columns))
    spectrum = Spectrum(matrix)
    u, values, v = np.linalg.svd(matrix, full_matrices=False)
    np.testing.assert_allclose(spectrum.squares, values**2, atol=1e-8)
    for rank in range(1, spectrum.full + 1):
        left, right = spectrum.factors(rank)
        np.testing.assert_allclose(left @ right, (u[:, :rank] * values[:rank]) @ v[:rank], atol=1e-6)
        basis = spectrum.right(rank)
        np.testing.assert_allclose(basis @ basis.T, v[:rank].T @ v[:rank], atol=1e-6)
        assert spectrum.rank_within(spectrum.dropped(rank) + 1e-9) <= rank


def test_a_matrix_of_zeros_has_factors_of_zeros():
    left, right = Spectrum(np.zeros((4, 3))).factors(2)
    np.testing.assert_array_equal(left @ right, np.zeros((4, 3)))


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"einsum"}))
@pytest.mark.parametrize("option", ["rank", "energy"])
def test_every_model_gets_smaller_and_stays_plain(name, option, tmp_path):
    model = randomised(MODELS[name]())
    before = model.get_weights()
    smaller = tfbig.LowRank(**{option: 0.3}).prepare(model)
    assert type(smaller) is type(model) and smaller.count_params() < model.count_params()
    assert flops(smaller) <= flops(model) or any(isinstance(x, layers.Embedding) for x in model.layers)
    batch = batch_of(model)
    results = outputs_of(smaller, batch)
    assert [x.shape for x in results] == [x.shape for x in outputs_of(model, batch)]
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    smaller.save(tmp_path / "smaller.keras")
    again = keras.saving.load_model(tmp_path / "smaller.keras", compile=False)
    for a, b in zip(outputs_of(again, batch), results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_cheapest_way_is_taken_where_it_saves():
    inputs = keras.Input((16, 16, 32))
    x = layers.Conv2D(64, 3, padding="same", name="square")(inputs)
    x = layers.Conv2D(48, 1, name="point")(x)
    x = layers.Conv2D(8, 3, groups=2, name="grouped")(x)
    x = layers.Dense(1, name="thin")(layers.Flatten()(x))
    ranks = tfbig.LowRank(rank=0.25).plan(randomised(keras.Model(inputs, x))).ranks()
    assert ranks == {"square": ("tucker", (8, 16)), "point": ("channel", (12,))}


def test_flops_come_down_to_the_goal_at_one_energy():
    model = randomised(MODELS["residual"]())
    plan = tfbig.LowRank(flops=0.6).plan(model)
    reached = flops(plan.apply(model)) / flops(model)
    assert 0.55 < reached <= 0.6
    assert not any(isinstance(choice.way, EmbeddingFactors) for choice in plan.choices.values())


def test_shared_and_nested_layers_are_factored_once():
    dense = layers.Dense(32, name="both")
    inner = keras.Sequential([keras.Input((32,)), dense, layers.ReLU()], name="inner")
    inputs = keras.Input((32,))
    model = randomised(keras.Model(inputs, dense(inner(inner(inputs)))))
    smaller = tfbig.LowRank(rank=0.25).prepare(model)
    assert smaller.count_params() == 2 * 32 * 8 + 32
    assert macs(smaller) == 3 * 2 * 32 * 8


def test_excluded_layers_and_flags_are_kept():
    inputs = keras.Input((32,))
    x = layers.Dense(32, name="first", trainable=False)(inputs)
    model = keras.Model(inputs, layers.Dense(32, name="second")(x))
    smaller = tfbig.LowRank(rank=0.25, exclude=["second"]).prepare(model)
    assert [x.name for x in smaller.layers[1:]] == ["first_factor", "first", "second"]
    assert len(smaller.trainable_weights) == 2


def test_a_mask_passes_through_a_factored_embedding():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.LSTM(4)(layers.Embedding(40, 16, mask_zero=True)(inputs))
    model = randomised(keras.Model(inputs, x))
    plan = tfbig.LowRank(rank=0.5).plan(model)
    ids = np.array([[3, 4, 0, 0, 0, 0], [3, 4, 0, 0, 0, 0]], "int32")
    smaller = plan.apply(model)
    shorter = smaller(ids[:, :2])
    np.testing.assert_allclose(np.asarray(smaller(ids)), np.asarray(shorter), atol=1e-6)


def test_the_configuration_round_trips():
    technique = tfbig.LowRank(energy=0.9, exclude=("a",))
    assert technique.get_config() == {"energy": 0.9, "exclude": ["a"]}
    assert tfbig.LowRank.from_config(technique.get_config()) == technique
