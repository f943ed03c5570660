"""`fit` trains as Keras does, chooses what fits the model, and says what is wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import tfbig
from tfbig.errors import InvalidArgument, InvalidData, InvalidModel
from tfbig.training import fit
from tfbig.training.divergence import TrainingDiverged

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(96, 6)).astype("float32")
Y = (X[:, 0] + X[:, 1] > 0).astype("int64") + (X[:, 2] > 1)


def mlp(seed: int = 1, **config) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return tfbig.models.build("mlp", **{"input_shape": (6,), "units": (8,), "classes": 3, **config})


def batches(batch_size: int = 16) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(batch_size)


@pytest.mark.parametrize("steps_per_execution", [1, 3])
def test_same_weights_history_and_calls_as_keras_fit(steps_per_execution):
    calls: list[list] = []

    def recorder() -> keras.callbacks.Callback:
        mine: list = []
        calls.append(mine)
        callback = keras.callbacks.Callback()
        for name in ("on_train_begin", "on_train_end", "on_test_begin", "on_test_end"):
            setattr(callback, name, lambda logs=None, name=name: mine.append(name))
        for name in ("on_epoch_begin", "on_epoch_end", "on_train_batch_begin", "on_train_batch_end"):
            setattr(callback, name, lambda index, logs=None, name=name: mine.append((name, index)))
        return callback

    models = [mlp(dropout=0.2), mlp(dropout=0.2)]
    for model in models:
        model.compile(
            "adam", "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=steps_per_execution
        )
    theirs = models[0].fit(
        batches(), epochs=3, shuffle=False, validation_data=batches(32), verbose=0, callbacks=[recorder()]
    )
    ours = fit(models[1], batches(), epochs=3, validation_data=batches(32), verbose=0, callbacks=[recorder()])
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    assert ours.epoch == theirs.epoch
    assert ours.history.keys() == theirs.history.keys()
    for name, values in theirs.history.items():
        np.testing.assert_allclose(ours.history[name], values, rtol=1e-6)
    assert calls[0] == calls[1]


def test_custom_train_step_runs():
    class Counting(keras.Model):
        def train_step(self, data):
            self.steps.assign_add(1.0)
            return super().train_step(data)

    made = mlp()
    model = Counting(made.inputs, made.outputs)
    model.steps = keras.Variable(0.0, trainable=False, name="steps")
    fit(model, batches(), epochs=2, verbose=0)
    assert float(model.steps.value) == 12


@pytest.mark.parametrize(
    "last, labels, loss",
    [
        (layers.Dense(3, activation="softmax"), Y, "SparseCategoricalCrossentropy(False)"),
        (layers.Dense(3), Y, "SparseCategoricalCrossentropy(True)"),
        (layers.Softmax(), Y, "SparseCategoricalCrossentropy(False)"),
        (layers.Dense(3, activation="softmax"), np.eye(3, dtype="float32")[Y], "CategoricalCrossentropy(False)"),
        (layers.Dense(1, activation="sigmoid"), Y > 0, "BinaryCrossentropy(False)"),
        (layers.Dense(1), (Y > 0).astype("int32"), "BinaryCrossentropy(True)"),
        (layers.Dense(2), X[:, :2], "mse"),
        (layers.Dense(1), X[:, :1], "mse"),
    ],
)
def test_loss_fits_the_output(last, labels, loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.Dense(3), type(last).from_config(last.get_config())])
    history = fit(model, (X, labels), epochs=8, learning_rate=0.02, verbose=0)
    chosen = model.loss
    found = chosen if isinstance(chosen, str) else f"{type(chosen).__name__}({chosen.get_config()['from_logits']})"
    assert found == loss
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert len(history.history) == 2


def test_softmax_that_no_layer_names_is_found_in_the_values():
    x = keras.Input((6,))
    scores = layers.Dense(3)(x)
    model = keras.Model(x, keras.ops.exp(scores) / keras.ops.sum(keras.ops.exp(scores), axis=-1, keepdims=True))
    fit(model, (X, Y), verbose=0)
    assert model.loss.get_config()["from_logits"] is False


def test_compiled_settings_stay_unless_told_otherwise():
    model = mlp()
    optimizer = keras.optimizers.SGD(0.5)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], jit_compile=False)
    fit(model, (X, Y), verbose=0)
    assert model.optimizer is optimizer and model.loss == "sparse_categorical_crossentropy"
    assert int(optimizer.iterations.value) == 3
    history = fit(model, (X, Y), learning_rate=0.125, verbose=0)
    assert isinstance(model.optimizer, keras.optimizers.SGD)
    assert float(model.optimizer.learning_rate.value) == 0.125
    assert "accuracy" in history.history


def test_xla_is_off_on_a_cpu_unless_asked_for():
    model = mlp()
    fit(model, (X, Y), verbose=0)
    assert model.jit_compile is False
    fit(model, (X, Y), jit_compile=True, verbose=0)
    assert model.jit_compile is True


def test_data_objects_bring_their_validation_split():
    data = tfbig.data.load((X, Y), batch_size=16)
    history = fit(mlp(), data, epochs=2, verbose=0)
    assert len(history.history["val_loss"]) == 2


def test_class_and_sample_weights():
    """A class without weight, and samples without weight, do not move the model."""
    weights = (Y != 2).astype("float32")
    models = [mlp(), mlp(), mlp()]
    kept = Y != 2
    fit(models[0], (X, Y), class_weight={2: 0.0}, batch_size=96, optimizer="sgd", shuffle=False, verbose=0)
    fit(models[1], (X, Y, weights), batch_size=96, optimizer="sgd", shuffle=False, verbose=0)
    fit(models[2], (X[kept], Y[kept]), batch_size=96, optimizer="sgd", shuffle=False, verbose=0)
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)
    # Keras divides by the batch size, weights or not, so that the step is the kept samples' share of theirs.
    start = mlp().get_weights()
    for a, b, s in zip(models[0].get_weights(), models[2].get_weights(), start, strict=True):
        np.testing.assert_allclose(a - s, (b - s) * kept.mean(), atol=1e-6)


def test_accumulated_steps_are_those_of_a_large_batch():
    models = [mlp(), mlp()]
    fit(models[0], (X, Y), batch_size=12, accumulate=4, optimizer="momentum", epochs=2, shuffle=False, verbose=0)
    fit(models[1], (X, Y), batch_size=48, optimizer="momentum", epochs=2, shuffle=False, verbose=0)
    for a, b in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_order_depends_on_seed_and_epoch_alone():
    orders = []
    for seed in (0, 0, 1):
        seen: list[np.ndarray] = []
        source = tfbig.training.feed.feed((X, np.arange(96)), batch_size=96, seed=seed)
        seen = [next(iter(source.train))[1].numpy() for _ in range(2)]
        assert (seen[0] != seen[1]).any() and sorted(seen[0]) == list(range(96))
        orders.append(np.stack(seen))
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()


@pytest.mark.parametrize(("asked", "found"), [(None, False), (True, True)])
def test_no_iterator_waits_for_a_tuner_that_nobody_asked_for(asked, found):
    options = tf.data.Options()
    if asked is not None:
        options.autotune.enabled = asked
    own = batches().with_options(options)
    made = tfbig.training.feed.feed(own, validation_data=own, class_weight={0: 2.0})
    assert [part.options().autotune.enabled for part in (made.train, made.validation)] == [found, found]
    from_arrays = tfbig.training.feed.feed((X, Y)).train
    assert from_arrays.options().autotune.enabled is False


def test_many_short_trainings_raise_no_alarm_of_tracing(caplog):
    """TensorFlow counts how often Keras's function of a batch is traced over all models of a process."""
    tf.get_logger().addHandler(caplog.handler)
    try:
        for _ in range(6):
            tfbig.training.fit(mlp(), (X[:8], Y[:8]), batch_size=8, verbose=0)
    finally:
        tf.get_logger().removeHandler(caplog.handler)
    assert "retracing" not in caplog.text
    assert not tf.get_logger().filters


def test_endless_data_with_steps_per_epoch():
    model = mlp()
    fit(model, batches().repeat(), steps_per_epoch=4, epochs=3, verbose=0)
    assert int(model.optimizer.iterations.value) == 12


def test_early_stopping_keeps_the_best_weights():
    model = mlp()
    history = fit(model, (X, Y), validation_data=(X, (Y + 1) % 3), epochs=30, early_stopping=2, verbose=0)
    assert len(history.epoch) < 30
    best = model.evaluate(X, (Y + 1) % 3, verbose=0)[0]
    assert best == pytest.approx(min(history.history["val_loss"]), rel=1e-4)


def test_logs_are_written(tmp_path):
    fit(mlp(), (X, Y), epochs=2, logs=tmp_path / "logs", verbose=0)
    lines = (tmp_path / "logs" / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,") and len(lines) == 3
    assert list((tmp_path / "logs").rglob("events.out.tfevents*"))


def test_divergence_stops_with_the_last_good_weights():
    model = mlp(activation="tanh")
    weights: list[list[np.ndarray]] = []
    x = X.copy()
    x[50] = np.nan
    spoiled = tf.data.Dataset.from_tensor_slices((x, Y)).batch(16)

    def switch():
        yield from batches() if not weights else spoiled

    class Keep(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            weights.append(self.model.get_weights())

    changing = tf.data.Dataset.from_generator(switch, output_signature=batches().element_spec)
    with pytest.raises(TrainingDiverged, match="loss became nan in epoch 2.*beginning of epoch 2.*clip_norm=1.0"):
        fit(model, changing, epochs=5, callbacks=[Keep()], verbose=0)
    for now, good in zip(model.get_weights(), weights[0], strict=True):
        np.testing.assert_array_equal(now, good)


@pytest.mark.parametrize(
    "data, options, error, text",
    [
        ((X, Y), {"epochs": 0}, InvalidArgument, "`epochs` must be a whole number of at least 1, received 0"),
        ((X, Y), {"checkpoint_every": 0}, InvalidArgument, "`checkpoint_every` must be"),
        ((X, Y), {"optimizer": "adamm"}, InvalidArgument, "Unknown optimizer 'adamm'.*Did you mean 'adam'"),
        ((X, Y), {"schedule": "cosin"}, InvalidArgument, "Unknown schedule 'cosin'.*Did you mean 'cosine'"),
        ((X, Y), {"warmup": 9999}, InvalidArgument, "`warmup` must be shorter than the training of 3 steps"),
        ((X, Y), {"clip_norm": 0}, InvalidArgument, "`clip_norm` must be in"),
        ((X, Y), {"ema": 1.0}, InvalidArgument, "`ema` must be in"),
        (
            (X, Y),
            {"accumulate": 10_000},
            InvalidArgument,
            "`accumulate`=10000 is more than the .* batches of the whole",
        ),
        ((X, Y), {"batch_size": 0}, InvalidArgument, "`batch_size` must be a whole number of at least 1, received 0"),
        (
            (X, Y),
            {"class_weight": {"a": 1.0}},
            InvalidArgument,
            "`class_weight` must map class ids, from 0, to weights",
        ),
        ((X, Y), {"accumulate": 0}, InvalidArgument, "`accumulate` must be a whole number"),
        ((X, Y), {"label_smoothing": 1.0}, InvalidArgument, "`label_smoothing` must be in"),
        ((X, Y), {"label_smoothing": 0.1, "loss": "mse"}, InvalidArgument, "`label_smoothing` applies to the loss"),
        ((X, Y), {"strategy": "mirored"}, InvalidArgument, "Unknown strategy 'mirored'.*Did you mean 'mirrored'"),
        ((X, Y), {"precision": "float8"}, InvalidArgument, "Unknown precision 'float8'"),
        ((X, Y[:5]), {}, InvalidData, "`data`: all arrays must have the same number of samples.*96.*5"),
        ((X[:0], Y[:0]), {}, InvalidData, "`data` is empty"),
        (batches().take(0), {}, InvalidData, "`data` is empty: it has no batch"),
        (batches().repeat(), {}, InvalidArgument, "never ends.*steps_per_epoch"),
        (batches().filter(lambda x, y: True), {"schedule": "cosine"}, InvalidArgument, "how long the training is"),
        ("digits", {}, InvalidArgument, "`data` must be a tfbig.data.Data.*received str"),
    ],
)
def test_errors_name_the_argument(data, options, error, text):
    with pytest.raises(error, match=text):
        fit(mlp(), data, verbose=0, **options)


def test_options_of_an_optimizer_that_is_there_already():
    with pytest.raises(InvalidArgument, match=r"`clip_norm` belongs to the optimizer: give it to SGD\(...\) itself"):
        fit(mlp(), (X, Y), optimizer=keras.optimizers.SGD(), clip_norm=1.0, verbose=0)


def test_no_obvious_loss():
    x = keras.Input((6,))
    model = keras.Model(x, [layers.Dense(1)(x), layers.Dense(2)(x)])
    with pytest.raises(InvalidModel, match="`loss` must be given for model"):
        fit(model, (X, Y), verbose=0)


def test_class_weights_are_for_one_label():
    with pytest.raises(InvalidArgument, match="`class_weight` is for data with one label for each sample, received 2."):
        tfbig.training.feed.feed((X, (Y, Y)), class_weight={0: 2.0})


def test_the_loss_of_a_prepared_model_is_that_of_the_model():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(hidden))
    x, y = np.random.default_rng(0).normal(size=(32, 4)).astype("float32"), np.arange(32) % 3
    for technique in (tfbig.Prune(sparsity=0.5), tfbig.Quantize("int8")):
        prepared = technique.prepare(model)
        fit(prepared, (x, y), epochs=1, verbose=0)
        assert prepared.loss.from_logits is False
        likelihoods = prepared.predict(x, verbose=0)[np.arange(32), y]
        loss = prepared.evaluate(x, y, verbose=0, return_dict=True)["loss"]
        assert loss == pytest.approx(-np.mean(np.log(likelihoods)), rel=1e-3)
