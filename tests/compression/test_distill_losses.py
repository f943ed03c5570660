"""The distillation losses against NumPy."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfbig.compression.distillation.heads import Head, activation_of_values, activations
from tfbig.compression.techniques.distill import AttentionTransfer, FeatureMatch, SoftTargets
from tfbig.errors import InvalidArgument, InvalidModel


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def divergence(p, q):
    return np.sum(p * np.log(p / q), axis=-1)


def logits(seed, *shape, scale=3.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 12), st.floats(0.5, 20.0), st.sampled_from([(), (3,)]))
def test_soft_targets_are_the_divergence_of_hinton(seed, batch, classes, temperature, between):
    teacher = logits(seed, batch, *between, classes)
    student = logits(seed + 1, batch, *between, classes)
    expected = temperature**2 * divergence(softmax(teacher / temperature), softmax(student / temperature)).mean()
    found = float(SoftTargets(temperature).compute_loss(teacher, student))
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("teacher_logits", [True, False])
@pytest.mark.parametrize("student_logits", [True, False])
def test_probabilities_give_the_loss_of_their_logits(teacher_logits, student_logits):
    teacher, student = logits(0, 6, 5), logits(1, 6, 5)
    head = Head("categorical", teacher_logits, student_logits)
    given = (teacher if teacher_logits else softmax(teacher)), (student if student_logits else softmax(student))
    expected = float(SoftTargets(4.0).compute_loss(teacher, student))
    assert float(SoftTargets(4.0).compute_loss(*given, heads=[head])) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("from_logits", [True, False])
def test_independent_outputs_take_the_divergence_of_each(from_logits):
    teacher, student, t = logits(0, 6, 3, scale=2.0), logits(1, 6, 3, scale=2.0), 2.5
    p, q = sigmoid(teacher / t), sigmoid(student / t)
    expected = t**2 * np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    given = (teacher, student) if from_logits else (sigmoid(teacher), sigmoid(student))
    found = SoftTargets(t).compute_loss(*given, heads=[Head("binary", from_logits, from_logits)])
    assert float(found) == pytest.approx(expected, rel=1e-3)


def test_sample_weights_weigh_samples():
    teacher, student, weight = logits(0, 4, 5), logits(1, 4, 5), np.array([1.0, 0.0, 2.0, 0.5])
    each = divergence(softmax(teacher), softmax(student))
    found = SoftTargets(1.0).compute_loss(teacher, student, sample_weight=weight)
    assert float(found) == pytest.approx(np.mean(each * weight), rel=1e-4)


def test_half_precision_outputs_are_compared_in_float32():
    teacher, student = logits(0, 4, 5).astype("float16"), logits(1, 4, 5).astype("float16")
    expected = 16 * divergence(softmax(teacher.astype(float) / 4), softmax(student.astype(float) / 4)).mean()
    assert float(SoftTargets(4.0).compute_loss(teacher, student)) == pytest.approx(expected, rel=1e-4)


def test_equal_features_cost_nothing_and_others_their_squares():
    a, b = logits(0, 2, 4, 4, 3), logits(1, 2, 4, 4, 3)
    match = FeatureMatch("x")
    match.build((None, 4, 4, 3), (None, 4, 4, 3))
    assert match.projection is None
    assert float(match.compute_loss(a, a)) == 0
    assert float(match.compute_loss(a, b)) == pytest.approx(np.mean((a - b) ** 2), rel=1e-5)


def test_other_channels_and_positions_are_mapped():
    teacher, student = logits(0, 2, 4, 4, 6), logits(1, 2, 8, 8, 3)
    match = FeatureMatch("x", "y")
    match.build((None, 4, 4, 6), (None, 8, 8, 3))
    kernel, bias = match.projection.get_weights()
    assert kernel.shape == (3, 6)
    mapped = keras.ops.image.resize(student @ kernel + bias, (4, 4), antialias=True)
    expected = np.mean((teacher - np.asarray(mapped)) ** 2)
    assert float(match.compute_loss(teacher, student)) == pytest.approx(expected, rel=1e-4)


def test_sequences_of_other_lengths_are_resized():
    match = FeatureMatch("x")
    match.build((None, 5, 3), (None, 10, 3))
    constant = np.ones((2, 10, 3), "float32")
    assert float(match.compute_loss(np.ones((2, 5, 3), "float32"), constant)) == pytest.approx(0, abs=1e-6)


def test_attention_is_that_of_zagoruyko_and_komodakis():
    teacher, student = logits(0, 3, 4, 5, 6), logits(1, 3, 4, 5, 2)
    maps = [np.sum(x**2, axis=-1).reshape(3, -1) for x in (teacher, student)]
    a, b = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in maps)
    found = AttentionTransfer("x").compute_loss(teacher, student)
    assert float(found) == pytest.approx(np.mean((a - b) ** 2), rel=1e-4)
    assert float(AttentionTransfer("x").compute_loss(teacher, teacher * 7)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "teacher", "student", "expected"),
    [
        (FeatureMatch("a", "b"), (None, 4, 4, 3), (None, 3), "needs the same number of axes, at least two"),
        (FeatureMatch("a", "b"), (None, 4, None), (None, 4, 3), "needs a fixed number of channels (last axis)"),
        (FeatureMatch("a", "b"), (None, 2, 2, 2, 3), (None, 4, 4, 4, 3), "needs equal positions"),
        (AttentionTransfer("a", "b"), (None, 3), (None, 3), "needs positions (axes between first and last)"),
    ],
)
def test_features_that_cannot_be_compared(loss, teacher, student, expected):
    with pytest.raises(InvalidModel) as error:
        loss.build(teacher, student)
    text = str(error.value)
    assert f"Layer 'a' of the student gives {student}, layer 'b' of the teacher {teacher}" in text
    assert expected in text and "Name another pair of layers." in text


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan"), "hot"])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(InvalidArgument, match=r"`temperature` must be in \(0, inf\), received"):
        SoftTargets(temperature)


@pytest.mark.parametrize(
    "loss",
    [
        SoftTargets(3.0),
        SoftTargets(2.0, "mse"),
        SoftTargets(2.0, keras.losses.Huber(delta=2.0)),
        FeatureMatch("a", "b"),
    ],
)
def test_losses_come_back_from_their_configuration(loss):
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(twin) is type(loss) and twin.get_config() == loss.get_config()


def _ends(*layers):
    inputs = x = keras.Input((4,))
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (_ends(keras.layers.Dense(3)), "linear"),
        (_ends(keras.layers.Dense(3, activation="relu")), "linear"),
        (_ends(keras.layers.Dense(3, activation="softmax")), "softmax"),
        (_ends(keras.layers.Dense(3), keras.layers.Softmax()), "softmax"),
        (_ends(keras.layers.Dense(3), keras.layers.Activation("sigmoid")), "sigmoid"),
        (_ends(keras.layers.Dense(3, activation="softmax"), keras.layers.Activation("linear")), "softmax"),
        (_ends(keras.layers.Dense(4, activation="softmax"), keras.layers.Reshape((2, 2))), "softmax"),
        (_ends(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, activation="softmax")])), "softmax"),
        (_ends(keras.layers.Dense(3), keras.ops.softmax), "softmax"),
        (_ends(keras.layers.Dense(3), keras.ops.sigmoid), "sigmoid"),
        (_ends(keras.layers.Dense(3), keras.layers.BatchNormalization()), "unknown"),
    ],
)
def test_the_last_activation_is_read_from_the_graph(model, expected):
    assert activations(model) == [expected]


def test_the_activation_of_a_file_is_told_from_its_values():
    z = logits(0, 32, 10)
    assert activation_of_values(z) == "linear"
    assert activation_of_values(softmax(z)) == "softmax"
    assert activation_of_values(np.round(softmax(z) * 256) / 256) == "softmax"
    assert activation_of_values(sigmoid(z)) == "sigmoid"
    assert activation_of_values(sigmoid(z[:, :1])) == "sigmoid"
