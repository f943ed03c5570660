"""Budgets: what is over which limit, by how much, and which limits make no sense."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfbig.errors import InvalidArgument
from tfbig.tuning.budget import Budget, Figures

BASE = Figures(quality=0.9, quality_name="accuracy", bytes=100_000, gzip_bytes=90_000, latency_ms=1.0, macs=10_000)


def changed(**figures):
    return dataclasses.replace(BASE, **figures)


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        ({"max_byte": 1}, r"Unknown limit in `budget`: 'max_byte'. Known: .* Did you mean 'max_bytes'\?"),
        ({"max_bytes": 0}, r"`budget\['max_bytes'\]` must be in .*received 0"),
        ({"max_drop": -0.1}, r"`budget\['max_drop'\]` must be in \[0, inf\), received -0.1"),
        ({"max_bytes": "small"}, r"`budget\['max_bytes'\]` must be in .*received 'small'"),
        ({"max_latency_ms": math.nan}, r"`budget\['max_latency_ms'\]` must be a number, received nan"),
        ("max_bytes=1", r"`budget` must be a mapping such as .*received 'max_bytes=1'"),
    ],
)
def test_limits_that_are_none(given_, text):
    with pytest.raises(InvalidArgument, match=text):
        Budget.of(given_)


def test_unknown_objective_names_the_nearest():
    with pytest.raises(InvalidArgument, match=r"Unknown objective 'latency'.*Did you mean 'latency_ms'\?"):
        Budget().check_objective("latency")


def test_the_smallest_file_however_wrong_is_not_searched():
    with pytest.raises(InvalidArgument, match="`objective`='bytes' without a limit on quality.*Add max_drop"):
        Budget.of({"max_bytes": 10}).check_objective("bytes")
    Budget.of({"max_drop": 0.01}).check_objective("bytes")


def test_limits_that_contradict_each_other():
    with pytest.raises(InvalidArgument, match="contradicts itself: min_quality=0.95 .*accuracy 90.00 %.*max_drop=0.01"):
        Budget(min_quality=0.95, max_drop=0.01).check(BASE)
    with pytest.raises(InvalidArgument, match="contradicts itself"):
        Budget(min_quality=1.0, max_drop=1.0).check(changed(quality=2.0, quality_name="mae"))
    Budget(min_quality=0.85, max_drop=0.01).check(BASE)


def test_excess_and_how_it_is_told():
    budget = Budget.of({"max_bytes": 50_000, "max_latency_ms": 2.0, "max_drop": 0.01, "max_macs": None})
    figures = changed(bytes=60_000, quality=0.87)
    assert budget.excess(figures, BASE) == pytest.approx({"max_bytes": 0.2, "max_drop": 0.02})
    assert budget.told(figures, BASE) == (
        "60,000 bytes of at most 50,000 (20.0 % over) and a drop of 0.03 of at most 0.01"
    )
    assert budget.excess(changed(bytes=50_000, quality=0.89), BASE) == {}


def test_errors_are_better_when_smaller():
    base = changed(quality=2.0, quality_name="mae")
    budget = Budget(max_drop=0.1, min_quality=2.05)
    assert budget.excess(changed(quality=2.04, quality_name="mae"), base) == {}
    assert set(budget.excess(changed(quality=2.2, quality_name="mae"), base)) == {"max_drop", "min_quality"}


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_what_fits_scores_above_what_does_not_at_the_same_quality(fits, over, quality, other):
    budget = Budget(max_bytes=max(fits, 1))
    inside = changed(bytes=fits, quality=quality)
    outside = changed(bytes=fits + over, quality=min(other, quality))
    assert budget.score(inside, BASE, "quality") > budget.score(outside, BASE, "quality")


def test_objectives_besides_quality_reward_smaller_figures():
    budget = Budget(max_drop=0.5)
    assert budget.score(changed(macs=5_000), BASE, "macs") > budget.score(changed(macs=9_000), BASE, "macs")
    assert budget.score(changed(bytes=50_000), BASE, "bytes") == pytest.approx(math.log(2))
