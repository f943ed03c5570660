"""The examples that ranges are observed on: from data in any form, each at its input, of all that there is."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfbig.errors import InvalidArgument, InvalidData
from tfbig.exporters.calibration_samples import calibration_samples

A, B = np.full((300, 2), 1.0), np.arange(600.0).reshape(300, 2)


@pytest.fixture(scope="module")
def model():
    """Its inputs are not in the order of their names."""
    zeta, alpha = keras.Input((2,), name="zeta"), keras.Input((2,), name="alpha")
    return keras.Model([zeta, alpha], layers.Dense(1)(layers.Concatenate()([zeta, alpha])))


class Sequence(keras.utils.PyDataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return {"alpha": B[:3], "zeta": A[:3]}, np.zeros(3)


@pytest.mark.parametrize(
    "calibration",
    [
        [A, B],
        {"alpha": B, "zeta": A},
        {"alpha": B, "zeta": A, "not an input": A},
        ({"alpha": B, "zeta": A}, np.zeros(300)),
        tf.data.Dataset.from_tensor_slices(({"alpha": B, "zeta": A}, np.zeros(300))).batch(8),
        Sequence(),
    ],
    ids=["list", "dict", "more", "labelled", "dataset", "PyDataset"],
)
def test_each_input_gets_what_is_its_own(model, calibration):
    samples = calibration_samples(model, calibration)
    assert all((sample["zeta"] == 1).all() and sample["alpha"].shape == (1, 2) for sample in samples)
    assert samples[1]["alpha"][0, 1] != 1


def test_arrays_are_seen_from_end_to_end(model):
    rows = [sample["alpha"][0, 0] / 2 for sample in calibration_samples(model, [A, B])]
    assert len(rows) == 128 and rows[0] == 0 and rows[-1] >= 297 and max(np.diff(rows)) <= 3
    assert len(calibration_samples(model, [A[:5], B[:5]])) == 5


def test_a_name_that_is_missing(model):
    with pytest.raises(InvalidData, match="inputs named zeta, alpha, received alpha. Add zeta, or give a list"):
        calibration_samples(model, {"alpha": B})


@pytest.mark.parametrize(
    ("calibration", "kind", "text"),
    [
        (
            lambda: ([A[i : i + 1]] for i in range(4)),
            InvalidArgument,
            "received a function. Of a representative dataset",
        ),
        (
            (A[i : i + 1] for i in range(4)),
            InvalidArgument,
            "received a generator. Of a representative dataset of Tensor",
        ),
        ([A, B * np.nan], InvalidData, "`calibration` holds NaN or infinite values, which have no range"),
    ],
    ids=["function", "generator", "NaN"],
)
def test_what_shows_no_ranges_is_told(model, calibration, kind, text):
    with pytest.raises(kind, match=text):
        calibration_samples(model, calibration)
