"""Which plan comes next: KerasTuner's oracles, which propose no plan twice and none that is hopeless."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner import oracles
from sklearn.exceptions import ConvergenceWarning

from tfbig.files import atomic_file

OBJECTIVE = "score"
ALGORITHMS = ("random", "bayesian", "hyperband")
_DRAWS = 400  # random values looked at for one trial before the space counts as exhausted
_POOL = 200  # random values that the Bayesian oracle looks at, besides the variations of the best trials
_PARENTS = 3  # trials that are varied
_BETA = 1.0  # standard deviations by which a guess may beat what is known: with few trials little can be explored
_NOISE = 0.01  # variance of a score, as a share of all scores' variance: two seeds do not train alike

_TRUST = 0.3  # spreads of the scores that one unit of expected harm is worth

Admit = Callable[[dict[str, Any]], bool]  # whether values are a plan worth a trial; remembers those that are not
Harm = Callable[[dict[str, Any]], float]  # how much worse than others values are expected to be, before any was tried


class Screened(keras_tuner.Oracle):
    """What all oracles here have in common. Their state is written atomically, so that it survives any death.

    Args:
        admit: says whether values may become a trial.
        first: values to begin with.
        options: those of the KerasTuner oracle.
    """

    def __init__(self, *, admit: Admit, first: Sequence[dict[str, Any]] = (), **options: Any):
        super().__init__(**options)
        self.admit, self.first = admit, list(first)
        self._max_collisions = _DRAWS
        self._display.verbose = 0

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The first plans in turn, then what the algorithm proposes."""
        while self.first:
            values = self.first.pop(0)
            if not self._duplicate(values) and self.admit(values):
                return {"status": "RUNNING", "values": values}
        return self.propose(trial_id)

    def propose(self, trial_id: str) -> dict[str, Any]:
        """What the algorithm proposes."""
        return super().populate_space(trial_id)

    def _random_values(self) -> dict[str, Any] | None:
        for _ in range(_DRAWS):
            values = super()._random_values()
            if values is None or self.admit(values):
                return values
            self._tried_so_far.add(self._compute_values_hash(values))
        return None

    def _untried(self) -> dict[str, Any] | None:
        """Values that were not tried, admitted or not."""
        return super()._random_values()

    def get_state(self) -> dict[str, Any]:
        return {**super().get_state(), "first": self.first}

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        self.first = state["first"]

    def save(self) -> None:
        write_state(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial: Any) -> None:
        write_state(Path(self._get_trial_dir(trial.trial_id)) / "trial.json", trial.get_state())


class Random(Screened, oracles.RandomSearchOracle):
    """Values drawn at random."""


class Bayesian(Screened, oracles.BayesianOptimizationOracle):
    """KerasTuner's Gaussian process, asked about plans that exist and that fit the budget.

    The original optimizes over the unit cube, and most of what it finds there would be dropped. Here it judges plans
    drawn at random and the best trials with one choice changed, which in a large space are seldom drawn.

    Args:
        harm: a guess to begin with, and the mean of the process in place of a constant: a few trials say little about
            most plans.

    Reference:
        Snoek et al., "Practical Bayesian Optimization of Machine Learning Algorithms" (2012),
        https://arxiv.org/abs/1206.2944; the acquisition is the upper confidence bound of Srinivas et al. (2010), the
        mean function that of Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), section 2.7.
    """

    def __init__(self, *, harm: Harm | None = None, **options: Any):
        super().__init__(**options)
        self.harm = harm

    def propose(self, trial_id: str) -> dict[str, Any]:
        """The admitted plan of the highest upper confidence bound among many random ones."""
        begins = len(self._completed()) < (self.num_initial_points or 1)
        if begins and self.harm is None:
            return self._random_populate_space()
        for values in self._gentlest() if begins else self._most_promising():
            if self.admit(values):
                return {"status": "RUNNING", "values": values}
            self._tried_so_far.add(self._compute_values_hash(values))
        return self._random_populate_space()

    def _completed(self) -> list[Any]:
        return [trial for trial in self.trials.values() if trial.status == "COMPLETED"]

    def _gentlest(self) -> list[dict[str, Any]]:
        drawn = self._drawn()
        return [drawn[i] for i in np.argsort(self._harms(drawn), kind="stable")]

    def _drawn(self) -> list[dict[str, Any]]:
        return [values for _ in range(_POOL) if (values := self._untried()) is not None]

    def _most_promising(self) -> list[dict[str, Any]]:
        pool = {json.dumps(values, sort_keys=True): values for values in [*self._drawn(), *self._variations()]}
        if not pool:
            return []
        candidates = list(pool.values())
        mean, deviation = self._expected(candidates)
        return [candidates[i] for i in np.argsort(-mean - self.beta * deviation)]

    def _expected(self, candidates: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """The scores to expect and their standard deviations."""
        completed = self._completed()
        tried = [trial.hyperparameters.values for trial in completed]
        scores = np.array([trial.score for trial in completed])
        unit = _TRUST * scores.std()  # The process measures its own deviations by the same.
        beyond = scores + unit * self._harms(tried)  # What the guess does not say.
        self._fit(tried, beyond)
        running = [trial.hyperparameters.values for trial in self.ongoing_trials.values()]
        if running:  # Other workers' trials count as if they had ended a little worse than expected.
            mean, deviation = self.gpr.predict(self._vectors(running), return_std=True)
            self._fit([*tried, *running], np.concatenate([beyond, mean - deviation]))
        mean, deviation = self.gpr.predict(self._vectors(candidates), return_std=True)
        return mean - unit * self._harms(candidates), deviation

    def _fit(self, plans: Sequence[dict[str, Any]], scores: np.ndarray) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.gpr.fit(self._vectors(plans), scores)

    def _harms(self, plans: Sequence[dict[str, Any]]) -> np.ndarray:
        return np.array([self.harm(values) if self.harm else 0.0 for values in plans])

    def _variations(self) -> Iterator[dict[str, Any]]:
        """The best trials with one choice changed."""
        for trial in self.get_best_trials(_PARENTS):
            for hp in self._nonfixed_space():
                for value in hp.values:
                    values = {**trial.hyperparameters.values, hp.name: value}
                    if self._compute_values_hash(values) not in self._tried_so_far:
                        yield values

    def _vectors(self, plans: Sequence[dict[str, Any]]) -> np.ndarray:
        space = self._nonfixed_space()
        return np.array([[hp.value_to_prob(values.get(hp.name, hp.default)) for hp in space] for values in plans])


class Hyperband(Screened, oracles.HyperbandOracle):
    """Many plans with few epochs, the better ones again with more."""


def make_oracle(
    algorithm: str,
    *,
    trials: int,
    epochs: int,
    seed: int,
    admit: Admit,
    first: Sequence[dict[str, Any]],
    harm: Harm | None = None,
) -> Screened:
    """The oracle of one of the `ALGORITHMS`.

    Args:
        trials: how many it proposes at most.
        epochs: that the best trials of "hyperband" get.
        first: plans that "bayesian" begins with.
        harm: what "bayesian" expects of plans before it has tried any; None for nothing.
    """
    options: dict[str, Any] = {
        "objective": keras_tuner.Objective(OBJECTIVE, "max"),
        "seed": seed + 1,  # To KerasTuner 0 means any seed.
        "admit": admit,
        # One failure after another is told at the end, with the reasons.
        "max_consecutive_failed_trials": trials + 1,
    }
    if algorithm == "random":
        return Random(max_trials=trials, **options)
    if algorithm == "bayesian":
        initial = max(trials // 4, 2)
        options |= {"num_initial_points": initial, "alpha": _NOISE, "beta": _BETA}
        return Bayesian(max_trials=trials, first=first, harm=harm, **options)
    oracle = Hyperband(max_epochs=epochs, hyperband_iterations=1, **options)
    oracle.max_trials = trials
    return oracle


def write_state(path: str | os.PathLike, state: dict[str, Any]) -> None:
    """Writes what KerasTuner saves, whole or not at all."""
    with atomic_file(path) as partial:
        partial.write_text(json.dumps(state), encoding="utf-8")
