"""The Bayesian oracle against random values on a known function, and what it looks at."""

from __future__ import annotations

import keras_tuner
import numpy as np

from tfbig.tuning.oracles import make_oracle

CHOICES = {"channels": (1.0, 0.75, 0.5, 0.25), "sparsity": (0.0, 0.5, 0.7, 0.8, 0.9), "bits": (32, 16, 8, 4)}


def quality(values):
    """Falls with each choice on its own, bits least of all down to 8."""
    rounding = {32: 0.0, 16: 0.001, 8: 0.003, 4: 0.03}[values["bits"]]
    return 0.95 - 0.1 * (1 - values["channels"]) ** 1.5 - 0.08 * values["sparsity"] ** 4 - rounding


def size(values):
    return values["channels"] * (1 - 0.8 * values["sparsity"]) * values["bits"] / 32


def best_of(algorithm, seed, folder, trials=10, limit=0.15, **options):
    options = {"first": (), "admit": lambda values: size(values) <= limit, **options}
    oracle = make_oracle(algorithm, trials=trials, epochs=1, seed=seed, **options)
    space = keras_tuner.HyperParameters()
    for name, choices in CHOICES.items():
        space.Choice(name, list(choices))
    oracle.hyperparameters = space
    oracle._set_project_dir(str(folder), f"{algorithm}{seed}")
    tried, noise = [], np.random.default_rng(seed)
    while (trial := oracle.create_trial("tuner0")).status == "RUNNING":
        values = {name: trial.hyperparameters.values[name] for name in CHOICES}
        assert size(values) <= limit and values not in tried
        tried.append(values)
        oracle.update_trial(trial.trial_id, {"score": quality(values) + noise.normal(0, 1e-3)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)
    assert len(tried) == trials
    return max(map(quality, tried)), tried


def test_better_than_random_in_most_seeds(tmp_path):
    pairs = [[best_of(kind, seed, tmp_path)[0] for kind in ("bayesian", "random")] for seed in range(5)]
    assert sum(ours >= theirs for ours, theirs in pairs) >= 4
    assert np.mean(pairs, axis=0)[0] > np.mean(pairs, axis=0)[1]


def test_begins_with_what_is_known_as_far_as_it_is_admitted(tmp_path):
    first = [{"channels": 1.0, "sparsity": 0.0, "bits": 32}, {"channels": 0.5, "sparsity": 0.5, "bits": 8}]
    _, tried = best_of("bayesian", 0, tmp_path, first=first)
    assert tried[0] == first[1]


def test_a_guess_of_what_plans_cost_leads_to_good_ones_sooner(tmp_path):
    def harm(values):
        return 2 * (1 - values["channels"]) + 2.5 * values["sparsity"] ** 3 + (0.5 if values["bits"] == 4 else 0)

    pairs = []
    for seed in range(5):
        guided = best_of("bayesian", seed, tmp_path / "guided", trials=6, harm=harm)[0]
        pairs.append((guided, best_of("bayesian", seed, tmp_path / "blind", trials=6)[0]))
    assert sum(guided >= blind for guided, blind in pairs) >= 4
    assert np.mean(pairs, axis=0)[0] > np.mean(pairs, axis=0)[1]


def test_begins_with_the_gentlest_of_what_is_admitted(tmp_path):
    _, tried = best_of("bayesian", 0, tmp_path, harm=lambda values: values["sparsity"], limit=0.3)
    admitted = [s for c in CHOICES["channels"] for s in CHOICES["sparsity"] for b in CHOICES["bits"]
                if size({"channels": c, "sparsity": s, "bits": b}) <= 0.3]  # fmt: skip
    assert [values["sparsity"] for values in tried[:2]] == sorted(admitted)[:2]


def test_a_wrong_guess_is_unlearned(tmp_path):
    best, _ = best_of("bayesian", 0, tmp_path, trials=20, harm=lambda values: -4 * (1 - values["channels"]))
    assert best > 0.99 * best_of("bayesian", 0, tmp_path / "none", trials=20)[0]
