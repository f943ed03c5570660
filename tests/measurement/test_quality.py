"""Metrics against their NumPy definitions, and the choice of one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfbig.errors import InvalidArgument, InvalidData
from tfbig.measurement.quality import METRICS, quality_of

RANDOM = np.random.default_rng(0)
PROBABILITIES = RANDOM.dirichlet(np.ones(7), 50).astype(np.float32)
IDS = RANDOM.integers(0, 7, 50)


def test_class_ids_in_every_shape_give_the_same_accuracy():
    expected = np.mean([row.argmax() == label for row, label in zip(PROBABILITIES, IDS, strict=True)])
    one_hot = np.eye(7, dtype=np.float32)[IDS]
    for labels in (IDS, IDS[:, None], IDS.astype(np.float32), one_hot, one_hot.astype(int)):
        assert quality_of(labels, PROBABILITIES) == ("accuracy", pytest.approx(expected))
    assert quality_of(IDS, np.log(PROBABILITIES))[1] == pytest.approx(expected)


def test_top5_accuracy_counts_the_five_largest():
    expected = np.mean([label in np.argsort(row)[-5:] for row, label in zip(PROBABILITIES, IDS, strict=True)])
    assert quality_of(IDS, PROBABILITIES, "top5_accuracy")[1] == pytest.approx(expected)


def test_binary_outputs_may_be_probabilities_or_logits():
    logits = RANDOM.normal(size=(60, 1))
    labels = RANDOM.integers(0, 2, 60)
    expected = np.mean((logits[:, 0] > 0) == labels)
    probabilities = 1 / (1 + np.exp(-logits))
    for outputs in (logits, probabilities, probabilities[:, 0]):
        for answers in (labels, labels.astype(np.float32)[:, None]):
            assert quality_of(answers, outputs) == ("accuracy", pytest.approx(expected))


def test_several_yes_or_no_outputs_are_judged_each():
    outputs = RANDOM.random((40, 5))
    labels = (RANDOM.random((40, 5)) > 0.4).astype(int)
    assert quality_of(labels, outputs)[1] == pytest.approx(np.mean((outputs > 0.5) == labels))


def test_labels_per_pixel():
    outputs, labels = RANDOM.random((3, 4, 4, 6)), RANDOM.integers(0, 6, (3, 4, 4, 1))
    assert quality_of(labels, outputs)[1] == pytest.approx(np.mean(outputs.argmax(-1) == labels[..., 0]))


@given(st.integers(1, 40), st.integers(1, 3), st.integers(0, 1000))
def test_numbers_are_judged_by_their_errors(samples, width, seed):
    random = np.random.default_rng(seed)
    labels, outputs = random.normal(size=(2, samples, width)) * 10
    assert quality_of(labels, outputs) == ("mae", pytest.approx(np.abs(labels - outputs).mean()))
    assert quality_of(labels, outputs, "mse")[1] == pytest.approx(((labels - outputs) ** 2).mean())
    assert quality_of(labels, outputs, "rmse")[1] == pytest.approx(((labels - outputs) ** 2).mean() ** 0.5)


def test_a_column_and_a_row_of_labels_do_not_broadcast():
    labels, outputs = np.array([1.5, 2.5, 4.0]), np.array([[1.0], [2.0], [3.0]])
    assert quality_of(labels, outputs) == ("mae", pytest.approx(2 / 3))


def test_a_function_is_a_metric():
    def worst_error(labels, outputs):
        return np.abs(labels - outputs).max()

    assert quality_of(np.array([1.0, 2.5]), np.array([1.5, 2.0]), worst_error) == ("worst_error", 0.5)


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_refuses_labels_that_do_not_fit(metric):
    with pytest.raises(InvalidData, match=r"\(50, 3\)"):
        quality_of(np.full((50, 3), 0.25), PROBABILITIES, metric)


def test_labels_out_of_range():
    with pytest.raises(InvalidData, match="labels go from 1 to 7, expected class ids from 0 to 6"):
        quality_of(np.arange(1, 8), PROBABILITIES[:7])


def test_unknown_metric_names_the_nearest():
    with pytest.raises(InvalidArgument, match="Unknown metric 'acuracy'.*Did you mean 'accuracy'?"):
        quality_of(IDS, PROBABILITIES, "acuracy")


def test_f1_of_two_classes_is_that_of_the_second_and_else_the_mean():
    from sklearn.metrics import f1_score

    decisions, answers = RANDOM.random((80, 1)), RANDOM.integers(0, 2, 80)
    expected = f1_score(answers, decisions[:, 0] > 0.5)
    assert quality_of(answers, decisions, "f1") == ("f1", pytest.approx(expected))
    assert quality_of(answers, np.hstack([1 - decisions, decisions]), "f1")[1] == pytest.approx(expected)
    expected = f1_score(IDS, PROBABILITIES.argmax(-1), average="macro")
    assert quality_of(IDS, PROBABILITIES, "f1")[1] == pytest.approx(expected)
    assert quality_of(np.zeros(5, int), np.zeros((5, 1)), "f1")[1] == 0.0
