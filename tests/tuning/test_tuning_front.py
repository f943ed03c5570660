"""The Pareto front against its definition, by brute force; importance of choices against made-up scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import tfbig
from tfbig.measurement.measure import Measurement
from tfbig.tuning.budget import Budget
from tfbig.tuning.front import costs, front, within
from tfbig.tuning.importance import importance
from tfbig.tuning.log import Trial
from tfbig.tuning.shelf import Candidate


def candidate(quality, size, stages=1, name="accuracy"):
    recipe = tfbig.Recipe([tfbig.Prune(sparsity=0.5)] * stages)
    measured = Measurement("a.tflite", quality, name, 10, size, size, 10, 0.0, 10, 1.0, 1.0, 1)
    return Candidate(Path("a.tflite"), recipe, 1, measured, 10)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), min_size=1, max_size=12))
def test_nothing_on_the_front_is_beaten_and_everything_else_is(points):
    found = [(c.measurement.quality, c.measurement.bytes) for c in front([candidate(*p) for p in points], ("bytes",))]

    def beaten(p):
        return any(q != p and q[0] >= p[0] and q[1] <= p[1] for q in points)

    assert sorted(found) == sorted({p for p in points if not beaten(p)})
    assert [size for _, size in found] == sorted(size for _, size in found)


def test_of_equal_files_the_shortest_recipe_stays():
    long, short = candidate(0.9, 100, stages=3), candidate(0.9, 100, stages=1)
    assert front([long, short], ("bytes",)) == [short]


def test_errors_count_the_other_way_round():
    better, worse = candidate(0.1, 100, name="mae"), candidate(0.2, 100, name="mae")
    assert front([worse, better], ("bytes",)) == [better]


def test_a_file_is_judged_by_what_the_user_limits_or_minimizes():
    assert costs(Budget(), "quality") == ("bytes",)
    assert costs(Budget(max_latency_ms=1, max_drop=0.1), "macs") == ("latency_ms", "macs")


def test_within():
    base = candidate(0.9, 1000).figures
    small, large, bad = candidate(0.9, 10), candidate(0.9, 500), candidate(0.1, 10)
    assert within([small, large, bad], Budget(max_bytes=100, max_drop=0.1), base) == [small]


def test_importance_finds_the_choice_that_made_the_scores():
    random = np.random.default_rng(0)
    trials = []
    for number in range(40):
        values = {"bits": str(random.choice(["int8", "int4"])), "rank": float(random.choice([0.25, 0.5, 1.0]))}
        score = (0.5 if values["bits"] == "int8" else 0.1) + 0.01 * random.standard_normal()
        trials.append(Trial(str(number), "", values, 1, 1.0, score=score))
    shares = importance(trials)
    assert list(shares)[0] == "bits" and shares["bits"] > 0.95 and shares["rank"] < 0.2
    assert importance(trials[:2]) == {}
