"""Models in training under the native engine: what they compute, keep, save and give back."""

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.compression.native.kernels import compressible_kernels
from tfbig.errors import InvalidArgument, InvalidModel, InvariantBroken

TECHNIQUES = {
    "prune": tfbig.Prune(sparsity=0.75, frequency=1),
    "cluster": tfbig.Cluster(clusters=8),
    "quantize": tfbig.Quantize("int8"),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 96)
    x = rng.normal(size=(96, 6, 6, 2)).astype("float32") + y[:, None, None, None]
    return x, y


def network() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = layers.Input((6, 6, 2))
    x = layers.Conv2D(8, 3, padding="same", name="first")(inputs)
    x = shortcut = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same", name="second")(x))
    x = layers.ReLU()(layers.Add()([x, shortcut]))
    x = layers.Dense(16, activation="relu", name="hidden")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))


def compiled(model: keras.Model) -> keras.Model:
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    return model


def kernels(model: keras.Model) -> list[np.ndarray]:
    return [v.numpy() for v in model.trainable_weights if len(v.shape) > 1]


@pytest.mark.parametrize("name", TECHNIQUES)
def test_the_original_is_untouched_and_training_changes_the_copy(name, data):
    model = network()
    before = model.get_weights()
    prepared = compiled(TECHNIQUES[name].prepare(model))
    prepared.fit(*data, epochs=2, verbose=0)
    finished = TECHNIQUES[name].finish(prepared)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(kernels(finished)[0], before[0])
    assert isinstance(prepared, type(model))


def test_prune_gives_the_asked_zeros_to_one_weight_per_tensor(data):
    technique = TECHNIQUES["prune"]
    prepared = compiled(technique.prepare(network()))
    prepared.fit(*data, epochs=2, verbose=0)
    finished = technique.finish(prepared)
    for kernel in kernels(finished):
        assert abs(np.sum(kernel == 0) - 0.75 * kernel.size) <= 1
    np.testing.assert_allclose(finished(data[0]), prepared(data[0], training=False), atol=1e-6)
    technique.verify(finished)


def test_prune_without_training_prunes_at_once():
    technique = tfbig.Prune(sparsity=0.9)
    finished = technique.finish(technique.prepare(network()))
    assert all(abs(np.mean(k == 0) - 0.9) <= 1 / k.size for k in kernels(finished))


def test_global_pruning_ranks_all_weights_together():
    technique = tfbig.Prune(sparsity=0.6, scope="global")
    finished = technique.finish(technique.prepare(network()))
    together = np.concatenate([k.ravel() for k in kernels(finished)])
    assert abs(np.sum(together == 0) - 0.6 * together.size) <= 1
    shares = [np.mean(k == 0) for k in kernels(finished)]
    assert max(shares) - min(shares) > 0.05


def test_global_pruning_leaves_no_layer_empty():
    model, technique = network(), tfbig.Prune(sparsity=0.9, scope="global")
    first = compressible_kernels(model)[0]
    first.variable.assign(first.variable / 1000)  # Every weight of it is smaller than those of the other layers.
    finished = technique.finish(technique.prepare(model))
    found = kernels(finished)
    assert np.count_nonzero(found[0]) == np.ceil(0.1 * 0.1 * found[0].size)
    largest = np.argsort(-np.abs(first.variable.numpy().ravel()))[: np.count_nonzero(found[0])]
    assert np.all(found[0].ravel()[largest])
    assert abs(sum(np.sum(k == 0) for k in found) - 0.9 * sum(k.size for k in found)) <= 1


def test_cluster_leaves_few_values_and_the_same_outputs(data):
    technique = TECHNIQUES["cluster"]
    prepared = compiled(technique.prepare(network()))
    prepared.fit(*data, epochs=2, verbose=0)
    finished = technique.finish(prepared)
    assert max(np.unique(k).size for k in kernels(finished)) <= 8
    np.testing.assert_allclose(finished(data[0]), prepared(data[0], training=False), atol=1e-6)


def test_zeros_and_clusters_survive_quantization_aware_training(data):
    prune, cluster, quantize = tfbig.Prune(sparsity=0.5), tfbig.Cluster(clusters=6), tfbig.Quantize("int8")
    pruned = prune.finish(prune.prepare(network()))
    clustered = cluster.finish(cluster.prepare(pruned))
    prepared = compiled(quantize.prepare(clustered))
    prepared.fit(*data, epochs=2, verbose=0)
    finished = quantize.finish(prepared)
    for before, after in zip(kernels(clustered), kernels(finished), strict=True):
        np.testing.assert_array_equal(before == 0, after == 0)
        assert np.unique(after).size <= np.unique(before).size
        assert not np.array_equal(before, after)


def test_three_techniques_train_together(data):
    together = [tfbig.Prune(sparsity=0.5, frequency=1), tfbig.Cluster(clusters=6), tfbig.Quantize("int8")]
    model = network()
    for technique in together:
        model = technique.prepare(model)
    compiled(model).fit(*data, epochs=2, verbose=0)
    for technique in reversed(together):
        model = technique.finish(model)
    for kernel in kernels(model):
        assert np.mean(kernel == 0) >= 0.5 - 1 / kernel.size
        assert np.unique(kernel).size <= 6


@pytest.mark.parametrize("name", TECHNIQUES)
def test_saved_in_mid_training_it_goes_on_as_if_nothing_had_happened(name, data, tmp_path):
    x, y = data
    undisturbed = compiled(TECHNIQUES[name].prepare(network()))
    interrupted = compiled(TECHNIQUES[name].prepare(network()))
    for model in (undisturbed, interrupted):
        model.fit(x, y, epochs=1, shuffle=False, verbose=0)
    interrupted.save(tmp_path / "half.keras")
    restored = keras.models.load_model(tmp_path / "half.keras")
    for model in (undisturbed, restored):
        model.fit(x, y, epochs=1, shuffle=False, verbose=0)
    for a, b in zip(undisturbed.weights, restored.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=a.path)


@keras.saving.register_keras_serializable(package="tests")
class Doubling(keras.Model):
    """A subclassed model with a training step of its own."""

    def __init__(self, units: int = 16, **options):
        super().__init__(**options)
        self.units, self.steps_taken = units, 0
        self.hidden = layers.Dense(units, activation="relu")
        self.scores = layers.Dense(3, activation="softmax")

    def call(self, inputs):
        return self.scores(self.hidden(inputs) * 2.0)

    def train_step(self, data):
        self.steps_taken += 1
        return super().train_step(data)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_subclassed_model_keeps_its_own_train_step(name, data):
    x, y = data[0].reshape(96, -1), data[1]
    model = Doubling()
    model(x[:1])
    prepared = compiled(TECHNIQUES[name].prepare(model))
    prepared.fit(x, y, epochs=1, verbose=0)
    assert isinstance(prepared, Doubling) and prepared.steps_taken >= 1
    assert int(prepared.machines[-1].step.numpy()) == 3  # Its `call` takes no `training`, and yet it is told.
    assert type(TECHNIQUES["prune"].finish(TECHNIQUES["prune"].prepare(model))) is Doubling


def test_mixed_precision_trains_under_all_three(data):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = network()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    for technique in TECHNIQUES.values():
        model = technique.prepare(model)
    before = [kernel.copy() for kernel in kernels(model)]
    history = compiled(model).fit(*data, epochs=2, verbose=0).history["loss"]
    assert np.all(np.isfinite(history))
    assert all(not np.array_equal(a, b) for a, b in zip(before, kernels(model), strict=True))


def test_mixed_precision_as_the_policy_of_everything(data, tmp_path):
    """What is made under it, such as the prepared model, casts weights that are read outside of layers."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        body = [keras.layers.Dense(16, activation="relu"), keras.layers.BatchNormalization()]
        last = keras.layers.Dense(3, activation="softmax", dtype="float32")
        model = keras.Sequential([keras.Input(data[0].shape[1:]), keras.layers.Flatten(), *body, last])
        result = tfbig.compress(model, "int8", train=data, test=data, epochs=1, verbose=0)
        want = result.model.predict(data[0], verbose=0)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    from tfbig.measurement.litert import run_litert

    got = run_litert(result.file, [data[0]])[0]
    assert np.max(np.abs(got - want)) < 0.05
    assert not any(op.reason for op in tfbig.inspect(result.file).ops)


def test_a_loop_of_ones_own_needs_no_callbacks(data):
    import tensorflow as tf

    model = tfbig.Prune(sparsity=0.8, begin=0, end=4, frequency=1).prepare(network())
    optimizer, loss = keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy()
    for _ in range(6):
        with tf.GradientTape() as tape:
            value = loss(data[1], model(data[0], training=True))
        optimizer.apply(tape.gradient(value, model.trainable_weights), model.trainable_weights)
    masks = model.machines[0].masks
    assert all(abs(np.mean(~m.numpy()) - 0.8) <= 1 / m.numpy().size for m in masks)


def test_errors_name_the_argument_and_the_next_step():
    with pytest.raises(InvalidArgument, match=r"`sparsity` must be in \(0, 1\), received 1.2\."):
        tfbig.Prune(sparsity=1.2)
    with pytest.raises(InvalidArgument, match=r"`clusters` must be an int in \[2, 256\], received 1\."):
        tfbig.Cluster(clusters=1)
    with pytest.raises(InvalidArgument, match="`dtype` must be one of 'int8', 'int16x8', 'int4', received 'int7'"):
        tfbig.Quantize("int7")
    with pytest.raises(InvalidArgument, match=r"'fisrt', which matches no compressible layer.*Did you mean 'first'\?"):
        tfbig.Prune(sparsity=0.5, layers={"fisrt": None}).prepare(network())
    with pytest.raises(InvalidArgument, match="`pattern` is 2:4, but 'first/kernel' has 2 input channels"):
        tfbig.Prune(sparsity=0.5, pattern="2:4", layers={"first": 0.5}).prepare(network())
    with pytest.raises(InvalidModel, match="must be built, but 'unbuilt' has no weights yet"):
        tfbig.Prune(sparsity=0.5).prepare(keras.Sequential([layers.Dense(3)], name="unbuilt"))
    with pytest.raises(InvalidModel, match="was not prepared with Prune"):
        tfbig.Prune(sparsity=0.5).finish(network())
    with pytest.raises(InvalidModel, match="`model` must be a Keras 3 model, received builtins.str"):
        tfbig.Cluster().prepare("model.keras")


def test_nan_weights_and_models_without_kernels_are_refused():
    broken = network()
    broken.get_layer("hidden").kernel.assign(np.full((288, 16), np.nan))
    with pytest.raises(InvalidModel, match="NaN or infinite values in 'hidden/kernel'"):
        tfbig.Prune(sparsity=0.5).prepare(broken)
    empty = keras.Sequential([layers.Input((4,)), layers.Activation("relu")], name="empty")
    with pytest.raises(InvalidModel, match="'empty' has no weight tensor of rank 2 or more"):
        tfbig.Cluster().prepare(empty)


def test_verify_finds_a_lost_zero():
    technique = tfbig.Prune(sparsity=0.5)
    finished = technique.finish(technique.prepare(network()))
    layer = finished.get_layer("hidden")
    layer.kernel.assign(np.ones(layer.kernel.shape))
    with pytest.raises(InvariantBroken, match="'hidden/kernel' has 0.00% zeros, but Prune promised 50.00%"):
        technique.verify(finished)
