"""PruneChannels: the smaller model equals the original with the same channels masked."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from structure_models import MODELS, batch_of, outputs_of, randomised

import tfbig
from tfbig.compression.structure.flops import flops

GOALS = {"grouped_queries": 0.6, "shared": 0.6}
COARSE = ("many_groups", "grouped_queries", "transformer", "attention_from_operations")  # Heads and whole groups.


def _built(name: str) -> keras.Model:
    keras.utils.set_random_seed(0)
    return randomised(MODELS[name]())


def _close(smaller: list[np.ndarray], masked: list[np.ndarray]) -> None:
    for a, b in zip(smaller, masked, strict=True):
        scale = max(1.0, float(np.abs(b).max()))
        np.testing.assert_allclose(a / scale, b / scale, atol=1e-5)


@pytest.mark.parametrize("allocation", ["global", "uniform"])
@pytest.mark.parametrize("name", MODELS)
def test_the_smaller_model_equals_the_masked_original(name, allocation):
    model = _built(name)
    technique = tfbig.PruneChannels(flops=GOALS.get(name, 0.5), round_to=2, allocation=allocation)
    plan = technique.plan(model)
    assert plan.widths() and not plan.dependencies.not_understood
    inputs = batch_of(model)
    smaller, original = plan.apply(model), outputs_of(model, inputs)
    results = outputs_of(smaller, inputs)
    assert [a.shape for a in results] == [b.shape for b in original]
    assert max(np.abs(a - b).max() for a, b in zip(results, original, strict=True)) > 1e-3
    _close(results, outputs_of(plan.mask(model), inputs))


@pytest.mark.parametrize("name", MODELS)
def test_flops_come_down_to_the_goal_and_not_further_than_needed(name):
    model = _built(name)
    goal = GOALS.get(name, 0.5)
    reached = flops(tfbig.PruneChannels(flops=goal, round_to=1).prepare(model)) / flops(model)
    assert reached <= goal
    assert reached > goal * (0.75 if name in COARSE else 0.93)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_come_down_to_the_goal(name):
    model = _built(name)
    goal = 0.75
    reached = tfbig.PruneChannels(params=goal, round_to=1).prepare(model).count_params() / model.count_params()
    assert 0.6 * goal < reached <= goal


@pytest.mark.parametrize("name", MODELS)
def test_the_result_is_of_the_same_kind_and_the_original_is_untouched(name, tmp_path):
    model = _built(name)
    before, config = model.get_weights(), model.to_json()
    smaller = tfbig.PruneChannels(flops=GOALS.get(name, 0.6), round_to=2).prepare(model)
    assert type(smaller) is type(model) and smaller.name == model.name
    assert [(type(x), x.name) for x in smaller.layers] == [(type(x), x.name) for x in model.layers]
    assert [x.dtype for x in smaller.inputs] == [x.dtype for x in model.inputs]
    assert model.to_json() == config
    for a, b in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    smaller.save(tmp_path / "smaller.keras")
    inputs = batch_of(smaller)
    again = keras.saving.load_model(tmp_path / "smaller.keras", compile=False)
    _close(outputs_of(again, inputs), outputs_of(smaller, inputs))


def _zero_producers_only(model: keras.Model, kept: dict[str, np.ndarray]) -> None:
    """Masks by hand: only what creates a channel, and its normalization; what reads it keeps its weights."""
    for layer in model.layers:
        if layer.name in kept:
            gone = ~kept[layer.name]
            for variable in layer.weights:
                value = variable.numpy()
                value[..., gone] = 0
                variable.assign(value)


def test_masking_producers_by_hand_gives_the_same_outputs():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(16, 3, name="stem", padding="same")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="stem_norm")(x))
    y = layers.Conv2D(12, 3, name="inside", padding="same", activation="relu")(x)
    y = layers.BatchNormalization(name="leaving_norm")(layers.Conv2D(16, 1, name="leaving")(y))
    x = layers.DepthwiseConv2D(3, name="deep")(layers.Add()([x, y]))
    x = layers.BatchNormalization(name="deep_norm")(x)
    model = randomised(keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x))))
    plan = tfbig.PruneChannels(flops=0.3, round_to=4).plan(model)

    stem = plan.kept(model.get_layer("stem").kernel)[3]
    kept = dict.fromkeys(("stem", "stem_norm", "leaving", "leaving_norm", "deep_norm"), stem)
    kept["inside"] = plan.kept(model.get_layer("inside").kernel)[3]
    batch = batch_of(model)
    smaller = outputs_of(plan.apply(model), batch)
    deep = model.get_layer("deep")
    deep.kernel.assign(deep.kernel.numpy() * stem[:, None])
    deep.bias.assign(deep.bias.numpy() * stem)
    _zero_producers_only(model, kept)
    np.testing.assert_allclose(smaller[0], outputs_of(model, batch)[0], rtol=1e-4, atol=1e-4)


def test_the_filters_of_smallest_norm_go():
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(16, 3, name="conv"), layers.Flatten(), layers.Dense(3)]
    )
    randomised(model)
    kernel = model.get_layer("conv").kernel.numpy()
    norms = {"l1": np.abs(kernel).sum((0, 1, 2)), "l2": np.square(kernel).sum((0, 1, 2))}
    for criterion, values in norms.items():
        smaller = tfbig.PruneChannels(flops=0.5, importance=criterion).prepare(model)
        kept = np.sort(np.argsort(values)[8:])
        np.testing.assert_array_equal(smaller.get_layer("conv").kernel.numpy(), kernel[..., kept])


def test_the_smallest_normalization_scales_go():
    inputs = keras.Input((6, 6, 2))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(16, 3)(inputs))
    model = randomised(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))
    gamma = np.random.default_rng(5).normal(size=16).astype("float32")
    model.get_layer("norm").gamma.assign(gamma)
    smaller = tfbig.PruneChannels(flops=0.5, importance="batch_norm").prepare(model)
    kept = np.sort(np.argsort(np.abs(gamma))[8:])
    np.testing.assert_array_equal(smaller.get_layer("norm").gamma.numpy(), gamma[kept])


def test_scales_are_compared_across_layers_and_norms_are_not():
    inputs = keras.Input((6, 6, 2))
    x = layers.BatchNormalization(name="large")(layers.Conv2D(16, 1, name="first")(inputs))
    x = layers.BatchNormalization(name="small")(layers.Conv2D(16, 1, name="second")(x))
    model = randomised(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))
    for name in ("small", "second"):
        weights = model.get_layer(name).weights[0]
        weights.assign(weights.numpy() * 0.01)
    options = {"flops": 0.8, "round_to": 4, "floor": 0.25}
    assert set(tfbig.PruneChannels(importance="batch_norm", **options).plan(model).widths()) == {"second"}
    assert set(tfbig.PruneChannels(importance="l1", flops=0.5, round_to=4).plan(model).widths()) == {
        "first",
        "second",
    }


def test_a_leaky_relu_with_a_threshold_moves_zero_and_is_cut_right():
    inputs = keras.Input((8,))
    x = layers.ReLU(negative_slope=0.5, threshold=1.0)(layers.Dense(24)(inputs))
    model = randomised(keras.Model(inputs, layers.Dense(3)(ops.sum(x, axis=-1, keepdims=True))))
    with pytest.raises(tfbig.errors.InvalidArgument, match="smallest share that can be reached is 1.000"):
        tfbig.PruneChannels(flops=0.5).prepare(model)


def test_taylor_scores_are_those_of_a_linear_model_by_hand():
    inputs = keras.Input((5,))
    hidden = layers.Dense(16, use_bias=False, name="hidden")(inputs)
    model = randomised(keras.Model(inputs, layers.Dense(3, use_bias=False, name="out")(hidden)))
    generator = np.random.default_rng(3)
    batches = [(generator.normal(size=(4, 5)).astype("f"), generator.normal(size=(4, 3)).astype("f")) for _ in range(3)]
    first, second = (model.get_layer(name).kernel.numpy() for name in ("hidden", "out"))
    scores = np.zeros(16)
    for x, y in batches:
        slope = 2 * (x @ first @ second - y) / y.size
        scores += (first * (x.T @ (slope @ second.T))).sum(0) ** 2
    smaller = tfbig.PruneChannels(
        flops=0.5, importance="taylor", importance_data=batches, loss="mean_squared_error"
    ).prepare(model)
    kept = np.sort(np.argsort(scores)[8:])
    np.testing.assert_array_equal(smaller.get_layer("hidden").kernel.numpy(), first[:, kept])


def test_taylor_takes_the_loss_of_a_compiled_model():
    model = _built("sequential")
    model.compile("sgd", "sparse_categorical_crossentropy")
    data = [(batch_of(model)[0], np.array([0, 1, 2]))]
    smaller = tfbig.PruneChannels(flops=0.6, importance="taylor", importance_data=data, round_to=4).prepare(model)
    assert flops(smaller) <= 0.6 * flops(model)


@pytest.mark.parametrize("name", ["residual", "concatenated", "inverted_residual", "squeeze_and_excite", "nested"])
def test_widths_are_rounded_and_keep_their_floor(name):
    model = _built(name)
    plan = tfbig.PruneChannels(flops=0.7, floor=0.5, round_to=4).plan(model)
    for before, after in plan.widths().values():
        assert after % 4 == 0 and after >= before / 2


def test_uniform_narrows_all_layers_alike():
    model = keras.Sequential([keras.Input((16, 16, 3))])
    for filters in (32, 64, 128):
        model.add(layers.Conv2D(filters, 3, padding="same"))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(10))
    plan = tfbig.PruneChannels(flops=0.3, allocation="uniform").plan(model)
    shares = [after / before for before, after in plan.widths().values()]
    assert len(shares) == 3 and max(shares) - min(shares) <= 8 / 32


def test_excluded_layers_stay_as_they_are():
    model = _built("residual")
    excluded = next(x.name for x in model.layers if isinstance(x, layers.Conv2D))
    smaller = tfbig.PruneChannels(flops=0.7, round_to=2, exclude=(excluded,)).prepare(model)
    np.testing.assert_array_equal(smaller.get_layer(excluded).kernel.numpy(), model.get_layer(excluded).kernel.numpy())


def test_several_steps_reach_the_same_goal():
    model = _built("residual")
    smaller = model
    for step in tfbig.PruneChannels(flops=0.5, round_to=1).in_steps(3):
        smaller = step.prepare(smaller)
    assert 0.45 < flops(smaller) / flops(model) <= 0.5


def test_frozen_layers_and_precision_are_kept():
    inputs = keras.Input((8,))
    policy = keras.DTypePolicy("mixed_float16")
    x = layers.Dense(16, dtype=policy, name="frozen", trainable=False)(inputs)
    model = keras.Model(inputs, layers.Dense(2, dtype="float32")(layers.Dense(16, dtype=policy)(x)))
    smaller = tfbig.PruneChannels(flops=0.5).prepare(model)
    assert not smaller.get_layer("frozen").trainable and smaller.get_layer("frozen").compute_dtype == "float16"
    assert len(smaller.trainable_weights) == 4
    model.trainable = False
    assert not tfbig.PruneChannels(flops=0.5).prepare(model).trainable_weights


def test_a_smaller_model_trains():
    model = _built("inverted_residual")
    smaller = tfbig.PruneChannels(flops=0.5, round_to=2).prepare(model)
    smaller.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    x, y = batch_of(model, samples=16)[0], np.arange(16) % 3
    history = smaller.fit(x, np.broadcast_to(y[:, None, None], (16, 1, 1)), epochs=3, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_the_configuration_round_trips_without_the_data():
    technique = tfbig.PruneChannels(params=0.4, importance="taylor", exclude=("a",), importance_data=[1])
    config = technique.get_config()
    assert config == {"params": 0.4, "importance": "taylor", "exclude": ["a"]}
    assert tfbig.PruneChannels.from_config(config) == technique


def test_nothing_is_removed_when_all_may_stay():
    model = _built("residual")
    plan = tfbig.PruneChannels(flops=1.0).plan(model)
    assert plan.widths() == {}
    inputs = batch_of(model)
    np.testing.assert_array_equal(outputs_of(plan.apply(model), inputs)[0], outputs_of(model, inputs)[0])


def test_sizes_left_open_are_no_obstacle():
    inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    model = randomised(keras.Model(inputs, layers.Conv2D(2, 3)(x)))
    smaller = tfbig.PruneChannels(flops=0.5).prepare(model)
    assert smaller.input_shape == (None, None, None, 3)
    assert flops(smaller, input_shape=(20, 20, 3)) == pytest.approx(flops(model, input_shape=(20, 20, 3)) / 2, rel=0.01)
