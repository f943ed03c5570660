"""Accumulated batches that are taken together: the same training as one by one."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig
from tfbig.training import fit
from tfbig.training.accumulation import cycle
from tfbig.training.divergence import TrainingDiverged

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 8, 8, 3)).astype("float32")
Y = RANDOM.integers(0, 3, 60)


def model(accumulate: int | None = 4, **compiled) -> keras.Model:
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(8, 3),
            keras.layers.BatchNormalization(),
            keras.layers.ReLU(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.3),
            keras.layers.Dense(3, kernel_constraint=keras.constraints.MaxNorm(1.0)),
        ]
    )
    adam = keras.optimizers.Adam(0.01, global_clipnorm=1.0, gradient_accumulation_steps=accumulate)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(**{"optimizer": adam, "loss": loss, "metrics": ["accuracy"], "jit_compile": False, **compiled})
    return made


def batches(size: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(size)


# 15, 12, 10 and 10 batches an epoch: steps of the optimizer that end with an epoch, and some that reach into the next.
@pytest.mark.parametrize(("size", "accumulate"), [(4, 4), (5, 8), (6, 4), (6, 6)])
def test_same_weights_and_history_as_keras(size, accumulate):
    ours, theirs = model(accumulate), model(accumulate)
    assert cycle(ours) is not None
    history = fit(ours, batches(size), epochs=3, verbose=0).history
    wanted = theirs.fit(batches(size), epochs=3, shuffle=False, verbose=0).history
    for name, values in wanted.items():
        np.testing.assert_allclose(history[name], values, rtol=1e-3, err_msg=name)
    pairs = (m.weights + m.optimizer.variables for m in (ours, theirs))
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=2e-3, err_msg=a.path)


def test_several_batches_make_one_step_where_the_optimizer_takes_none_between():
    seen = []
    told = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    fit(model(), batches(6), epochs=2, callbacks=[told], verbose=0)
    # Ten batches: the last two of the first epoch are taken singly, as are the two that complete their step.
    assert seen == [3, 7, 8, 9, 0, 1, 5, 9]


def test_checkpoints_between_steps_of_several_batches(tmp_path):
    whole = model()
    fit(whole, batches(6), epochs=2, verbose=0)

    class Killed(Exception):
        pass

    def kill(batch, logs):
        if batch == 7:
            raise Killed

    with pytest.raises(Killed):
        kill_it = keras.callbacks.LambdaCallback(on_train_batch_end=kill)
        fit(model(), batches(6), epochs=2, checkpoint=tmp_path, checkpoint_every=3, callbacks=[kill_it], verbose=0)
    assert [path.name for path in sorted(tmp_path.iterdir())], "the step of four batches passed the third one"
    resumed = model()
    fit(resumed, batches(6), epochs=2, checkpoint=tmp_path, verbose=0)
    for a, b in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


@pytest.mark.parametrize(
    "alone",
    [
        lambda: model(None),
        lambda: model(7),
        lambda: model(2),
        lambda: model(jit_compile=True),
        lambda: model(run_eagerly=True),
        lambda: model(steps_per_execution=2),
        lambda: model(optimizer=keras.optimizers.SGD(0.1, use_ema=True, gradient_accumulation_steps=4)),
        lambda: model(
            optimizer=keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4))
        ),
    ],
)
def test_where_batches_are_taken_one_by_one(alone):
    assert cycle(alone()) is None


def test_a_training_step_of_ones_own_is_called_for_each_batch():
    own = OwnStep(model().layers)
    own.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4), model().loss)
    assert cycle(own) is None


class Noise(keras.layers.Layer):
    """Adds what TensorFlow's own generator draws, whose seed belongs to the operation in the graph; keeps four."""

    def build(self, input_shape):
        self.seen = self.add_weight(shape=(4,), initializer="zeros", trainable=False)

    def call(self, x):
        drawn = tf.random.normal(())
        self.seen.assign(tf.concat([tf.convert_to_tensor(self.seen)[1:], [drawn]], axis=0))
        return x + drawn


def test_a_layer_that_calls_tf_random_draws_anew_for_each_batch():
    keras.utils.set_random_seed(0)
    noise = Noise()
    made = keras.Sequential([keras.Input((1,)), noise, keras.layers.Dense(1)])
    made.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4), "mse", jit_compile=False)
    x = np.zeros((4, 1), "float32")
    fit(made, (x, x), batch_size=1, verbose=0)
    assert cycle(made) is not None and len(np.unique(noise.seen.numpy())) == 4


def test_recomputation_takes_batches_one_by_one():
    seen = []
    told = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    inputs = keras.Input((8, 8, 3))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(inputs)))
    functional = keras.Model(inputs, outputs)
    functional.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4), model().loss, jit_compile=False)
    fit(functional, batches(15), callbacks=[told], recompute=True, verbose=0)
    assert seen == [0, 1, 2, 3]


def test_a_diverged_training_is_noticed_within_the_epoch():
    """Also where steps of several batches never end at the marks where the loss is looked at."""
    x, y = np.ones((101, 2), "float32"), np.full((101, 1), np.nan, "float32")
    made = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    made.compile(keras.optimizers.SGD(0.1, gradient_accumulation_steps=4), "mse", jit_compile=False)
    made.optimizer.build(made.trainable_variables)
    made.optimizer._iterations.assign(2)  # As an earlier epoch of 102 batches leaves it.
    with pytest.raises(TrainingDiverged, match="by batch 22"):
        fit(made, (x, y), batch_size=1, verbose=0)


def test_embeddings_have_sparse_gradients():
    trained = []
    for fit_with in (fit, lambda m, d, **options: m.fit(d, shuffle=False, **options)):
        keras.utils.set_random_seed(0)
        made = tfbig.models.build("recommender", users=9, items=9, dimensions=4, units=(4,))
        sgd = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
        made.compile(sgd, "binary_crossentropy", jit_compile=False)
        ids = {"user": np.arange(16) % 9, "item": np.arange(16) % 5}
        fit_with(made, tf.data.Dataset.from_tensor_slices((ids, np.arange(16) % 2)).batch(4), epochs=3, verbose=0)
        trained.append(made.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
