"""The arithmetic of the native engine against NumPy, and against TFMOT where both do the same."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfbig.compression.native.clustering import first_centroids, means, nearest
from tfbig.compression.native.pruning import keep_largest
from tfbig.compression.native.rounding import fake_quantize
from tfbig.compression.schedule import Schedule

FLOATS = st.floats(-8, 8, width=32)


@settings(max_examples=60, deadline=None)
@given(
    values=arrays.arrays("float32", st.tuples(st.integers(1, 3), st.integers(1, 60)), elements=FLOATS),
    sparsity=st.floats(0, 1),
)
def test_keep_largest_keeps_the_asked_number_and_the_largest(values, sparsity):
    scores = np.abs(values)
    kept = keep_largest(tf.constant(scores), sparsity).numpy()
    count = int(np.round(np.float32(scores.shape[1]) * (1 - np.float32(sparsity))))
    assert np.all(kept.sum(axis=1) == count)
    for row, keep in zip(scores, kept, strict=True):
        if 0 < count < row.size:
            assert row[keep].min() >= row[~keep].max()


def test_keep_largest_breaks_ties_by_position():
    kept = keep_largest(tf.ones((1, 10)), 0.7).numpy()
    np.testing.assert_array_equal(kept, [[True] * 3 + [False] * 7])


@settings(max_examples=30, deadline=None)
@given(
    step=st.integers(0, 40),
    begin=st.integers(0, 10),
    length=st.integers(1, 25),
    final=st.floats(0.1, 0.95),
    power=st.sampled_from([1.0, 2.0, 3.0]),
)
def test_the_polynomial_schedule_is_that_of_tfmot(step, begin, length, final, power):
    from tensorflow_model_optimization.python.core.sparsity.keras import pruning_schedule

    theirs = pruning_schedule.PolynomialDecay(0.1, final, begin, begin + length, power=power, frequency=1)
    ours = Schedule(0.1, final, begin, begin + length, power, 1)
    due, sparsity = theirs(tf.constant(step, tf.int64))
    total = tf.constant(0, tf.int64)
    assert bool(ours.due(tf.constant(step, tf.int64), total)) == bool(due)
    if bool(due):
        np.testing.assert_allclose(ours.sparsity(tf.constant(step, tf.int64), total), sparsity, rtol=1e-5)


def test_a_share_of_the_training_becomes_steps():
    schedule = Schedule(0.0, 0.8, 0.25, 0.75, 1.0, 1)
    total = tf.constant(100, tf.int64)
    found = [float(schedule.sparsity(tf.constant(s, tf.int64), total)) for s in (0, 25, 50, 75, 99)]
    np.testing.assert_allclose(found, [0, 0, 0.4, 0.8, 0.8], atol=1e-6)


@pytest.mark.parametrize("initialization", ["linear", "density", "kmeans++", "random"])
def test_lloyds_rounds_lower_the_squared_error(initialization):
    values = np.random.default_rng(3).normal(size=500).astype("float32")
    rows = tf.constant(values[None])
    centroids = tf.constant(first_centroids(values, 8, initialization, 0, False)[None])
    alive = tf.ones_like(rows, tf.bool)
    errors = []
    for _ in range(6):
        assignment = nearest(rows, centroids)
        reference = np.abs(values[:, None] - centroids.numpy()[0]).argmin(axis=1)
        chosen = centroids.numpy()[0][assignment.numpy()[0]]
        np.testing.assert_allclose(np.abs(values - chosen), np.abs(values - centroids.numpy()[0][reference]), atol=1e-6)
        errors.append(float(np.sum((values - chosen) ** 2)))
        centroids, numbers = means(rows, assignment, alive, centroids)
        np.testing.assert_array_equal(numbers[0], np.bincount(assignment.numpy()[0], minlength=8))
    assert errors[-1] < errors[0] and all(b <= a + 1e-4 for a, b in zip(errors, errors[1:], strict=False))


def test_reach_moves_the_borders_as_the_squared_distances_say():
    rng = np.random.default_rng(5)
    values = rng.normal(size=300).astype("float32")
    centroids = np.array([-1.5, -0.4, 0.1, 1.2], "float32")
    reach = np.array([-0.30, -0.05, 0.0, -0.20], "float32")
    got = nearest(tf.constant(values[None]), tf.constant(centroids[None]), tf.constant(reach[None]))
    expected = ((values[:, None] - centroids) ** 2 - reach).argmin(axis=1)
    np.testing.assert_array_equal(got[0], expected)


@pytest.mark.parametrize("bits", [8, 16])
def test_fake_quantize_rounds_to_the_grid_and_stops_gradients_outside(bits):
    x = tf.constant(np.linspace(-2, 4, 61, dtype="float32"))
    low, high = -1.0, 3.0
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fake_quantize(x, low, high, bits)
    gradient = tape.gradient(y, x).numpy()
    if bits == 8:
        scale = (high - low) / 255
        zero = np.round(-low / scale)
        expected = (np.clip(np.round(x / scale + zero), 0, 255) - zero) * scale
    else:
        scale = 3.0 / 32767
        expected = np.clip(np.round(x / scale), -32768, 32767) * scale
    np.testing.assert_allclose(y, expected, atol=scale * 1.01)
    inside = (x.numpy() > (low if bits == 8 else -3) + 0.02) & (x.numpy() < high - 0.02)
    np.testing.assert_array_equal(gradient[inside], 1)
    np.testing.assert_array_equal(gradient[x.numpy() > high + 0.02], 0)
