"""`tfbig.search`: the best recipe under a budget, and the front of measured files around it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import keras

from tfbig import data as data_stage
from tfbig import training
from tfbig.data.dataset import Data
from tfbig.errors import InvalidData, check_count, check_range, unknown
from tfbig.files import atomic_file
from tfbig.measurement.measure import measure
from tfbig.measurement.quality import Metrics, check_metrics
from tfbig.measurement.samples import batches
from tfbig.pipeline.compress import identity, settled
from tfbig.pipeline.result import Delivery
from tfbig.report.environment import environment
from tfbig.report.report import Report, Row
from tfbig.training.compilation import takes_class_ids
from tfbig.tuning.as_keras3 import as_keras3
from tfbig.tuning.budget import Budget
from tfbig.tuning.folder import Folder
from tfbig.tuning.front import costs, front, within
from tfbig.tuning.log import Log, Trial
from tfbig.tuning.oracles import ALGORITHMS, make_oracle
from tfbig.tuning.page import page
from tfbig.tuning.progress import Progress, figures_text, log_hyperparameters
from tfbig.tuning.result import BudgetNotMet, NoTrialCompleted, SearchResult, places, put_in_place
from tfbig.tuning.screen import Screen
from tfbig.tuning.sensitivity import sensitivity
from tfbig.tuning.shelf import Candidate, Shelf
from tfbig.tuning.space import Plan, RecipeSpace
from tfbig.tuning.trials import RecipeTuner, Trials
from tfbig.tuning.workers import WORKER, role, wait_for

_SENSITIVITY = "sensitivity.json"
_REPORT = "report.json"
_ENDED = "ended"  # What workers wait for.
_NONE_YET = "none within the budget yet"


def search(
    model: keras.Model,
    data: Any,
    *,
    budget: Mapping[str, float] | Budget | None = None,
    objective: str = "quality",
    trials: int = 16,
    epochs: int | Sequence[int] = 3,
    algorithm: str = "bayesian",
    space: Mapping[str, Any] | None = None,
    directory: str | os.PathLike | None = None,
    optimizer: Any = "adam",
    learning_rate: float | None = None,
    loss: Any = None,
    metric: Metrics = None,
    seed: int = 0,
    verbose: Any = "auto",
) -> SearchResult:
    """Tries recipes on KerasTuner and returns the front of those files that no other one beats.

    Each trial is a recipe, run as `tfbig.compress` runs it, with the same seed and the same order of the data, so that
    its YAML gives the same file again. Before a trial is trained, its file is made without training: bytes are then
    known exactly, and what will not fit the budget is dropped. Trials whose recipes begin alike share that beginning.
    The search chooses by the validation split; the test split is looked at once, for the final table.

    Args:
        model: a built Keras 3 or tf_keras model; it is not touched.
        data: what `tfbig.data.load` gives or takes, with training, validation and test splits.
        budget: hard limits: `max_bytes`, `max_gzip_bytes`, `max_latency_ms`, `max_macs`, `max_drop`, `min_quality`; see
            `Budget`.
        objective: what is best within the budget: "quality", or the smallest "bytes", "gzip_bytes", "latency_ms" or
            "macs".
        trials: recipes to train at most, 1 or more.
        epochs: passes over the data in every stage; several numbers are choices of the search.
        algorithm: "bayesian", "random" or "hyperband"; the last one gives few epochs to many recipes and `epochs` to
            the best.
        space: choices in place of the usual ones, such as {"bits": ["int8"], "sparsity": [0.0, 0.5, 0.8]}; of
            "blocks", "channels", "rank", "sparsity", "clusters", "bits", "distill" and "exempt".
        directory: folder for the files and the state. If it holds this search, the search goes on there, and finished
            trials are not run again. None: a temporary folder that goes with the result.
        optimizer, learning_rate, loss: of every stage, as for `tfbig.compress`.
        metric: the quality, as for `tfbig.measure`.
        seed: of the search and of every training.
        verbose: 0 for silence.

    Raises:
        BudgetNotMet: nothing is within the budget; the message has what comes nearest, and how far it is.
        NoTrialCompleted: every trial failed; the message has the reasons.
        InvalidArgument: an unknown limit, objective, algorithm or choice, or limits that contradict each other.
        InvalidData: no validation split, or data that does not fit the model.
        InvalidFile: `directory` holds the search of another model or setting.
    """
    limits, epochs_of = Budget.of(budget), (epochs,) if isinstance(epochs, int) else tuple(epochs)
    _check(trials, epochs_of, optimizer, learning_rate)
    limits.check_objective(objective)
    if algorithm not in ALGORITHMS:
        raise unknown("algorithm", algorithm, ALGORITHMS)
    check_metrics(metric)
    model = as_keras3(model)
    splits = _splits(model, data, seed, takes_class_ids(model, loss))
    settings = {"optimizer": optimizer, "learning_rate": learning_rate, "loss": loss}
    settings = settled(model, splits, settings)
    delivery = Delivery(metric, {}, model)
    same = identity(model, splits, settings, seed, delivery)
    same |= {
        "epochs": list(epochs_of),
        "budget": limits.limits(),
        "objective": objective,
        "algorithm": algorithm,
        "space": dict(space or {}),
    }
    folder = Folder(directory, same)
    settings |= {"epochs": max(epochs_of), "verbose": 0}
    work = _Search(model, splits, settings, limits, objective, seed, folder, delivery)
    return work.run(
        trials=trials, epochs=epochs_of, algorithm=algorithm, space=space, verbose=verbose not in (0, False)
    )


class _Search:
    """One search, all arguments settled."""

    def __init__(
        self,
        model: keras.Model,
        splits: Data,
        settings: dict[str, Any],
        budget: Budget,
        objective: str,
        seed: int,
        folder: Folder,
        delivery: Delivery,
    ):
        self.model, self.splits, self.budget, self.objective = model, splits, budget, objective
        self.seed, self.folder, self.metric = seed, folder, delivery.metric
        self.shelf, self.log = Shelf(folder.path / "shelf", seed), Log(folder.path / "trials")
        self.trials = Trials(
            model, splits, settings, seed=seed, delivery=delivery, shelf=self.shelf, log=self.log, score=self.score
        )
        self.by = costs(budget, objective)

    def score(self, candidate: Candidate) -> float:
        return self.budget.score(candidate.figures, self.base.figures, self.objective)

    def run(
        self, *, trials: int, epochs: Sequence[int], algorithm: str, space: Mapping[str, Any] | None, verbose: bool
    ) -> SearchResult:
        with Progress(trials, verbose=verbose, done=len(self.log.trials())) as self.progress:
            self._prepare(epochs, space)
            self._tune(trials, max(epochs), algorithm)
            self.progress.doing("measuring the front")
            if role() == WORKER:
                wait_for(self.folder.path / _ENDED, since=self.started)
            try:
                return self._outcome()
            finally:
                (self.folder.path / _ENDED).touch()

    def _prepare(self, epochs: Sequence[int], space: Mapping[str, Any] | None) -> None:
        """What is known before the first trial; of several processes, the chief finds it out."""
        self.started, working = time.time(), role() == WORKER
        if working:
            wait_for(self.folder.path / _SENSITIVITY)
        self.progress.doing("measuring the model as it is")
        self.base = self.trials.original()
        if not working:
            self.progress.say(f"The model as it is: {figures_text(self.base)}")
        self.budget.check(self.base.figures)
        self.sensitivity = self._sensitivity()
        self.space = RecipeSpace(self.model, list(self.sensitivity), epochs=epochs, given=space)
        inputs = next(batches(self.splits.validation))[0]
        self.screen = Screen(self.model, inputs, self.budget, self.base.figures, self.folder.path / "screen.json")
        self.progress.doing("looking whether the budget can be met")
        if not working and not self.screen.any_fits(self.space.smallest()):
            raise BudgetNotMet(self._hopeless())

    def _tune(self, trials: int, epochs: int, algorithm: str) -> None:
        oracle = make_oracle(
            algorithm,
            trials=trials,
            epochs=epochs,
            seed=self.seed,
            admit=self._admits,
            first=self.space.known()[:trials],
            harm=self.space.harm if self.objective == "quality" else None,
        )
        self.tuner = RecipeTuner(oracle, self.space, self._ran, folder=self.folder.path)
        self.tuner.search()

    def _admits(self, values: dict[str, Any]) -> bool:
        plan = self.space.plan(values)
        tried = {self.space.plan(t.hyperparameters.values).key for t in self.tuner.oracle.trials.values()}
        return plan.key not in tried and self.screen(plan) is None

    def _ran(self, number: str, plan: Plan) -> Trial:
        known = self.log.find(number, plan)
        if known is not None:
            return known
        self.progress.doing(f"training {plan}")
        trial = self.trials.run(number, plan)
        self.progress.doing("choosing the next recipe")
        last = self.shelf.named(trial.stages[-1]) if trial.score is not None else None
        log_hyperparameters(trial, last, self.folder.path / "logs")
        self.progress.done = len(self.log.trials())  # Those of other workers are among them.
        fitting = within(self.shelf.candidates(), self.budget, self.base.figures)
        best = max(fitting, key=self.score, default=None)
        found = f"best within the budget: {best.name}, {figures_text(best)}" if best else _NONE_YET
        self.progress.ended(trial, figures_text(last) if last else f"failed: {trial.reason}", found)
        return trial

    def _sensitivity(self) -> dict[str, float]:
        path = self.folder.path / _SENSITIVITY
        if not path.exists():
            self.progress.doing("measuring how sensitive each layer is")
            found = sensitivity(self.model, self.splits.validation, self.metric)
            with atomic_file(path) as partial:
                partial.write_text(json.dumps(found), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    def _outcome(self) -> SearchResult:
        trials, candidates = self.log.trials(), self.shelf.candidates()
        if not any(trial.score is not None for trial in trials):
            raise NoTrialCompleted(_reasons(trials, self.screen))
        fitting = within(candidates, self.budget, self.base.figures)
        found = front(fitting or candidates, self.by)
        best = max(found, key=self.score)
        result = self._written(found, best, trials, candidates)
        if not fitting:
            raise BudgetNotMet(self._too_far(result.best), result)
        return result

    def _written(
        self, found: list[Candidate], best: Candidate, trials: list[Trial], candidates: list[Candidate]
    ) -> SearchResult:
        if role() == WORKER:
            placed, best = places(found, best, self.folder.path)
            return self._result(placed, best, Report.load(self.folder.path / _REPORT), trials)
        note = f"Found by tfbig.search; to get the same file: epochs={best.epochs}, seed={self.seed}."
        placed, best = put_in_place(found, best, self.folder.path, note)
        result = self._result(placed, best, self._report(placed, best), trials)
        split = "the test split" if self.splits.test is not None else "the validation split"
        with atomic_file(self.folder.path / "report.html") as partial:
            partial.write_text(page(result, candidates, split=split), encoding="utf-8")
        result.report.save(self.folder.path / _REPORT)
        return result

    def _result(
        self, placed: Sequence[Candidate], best: Candidate, report: Report, trials: Sequence[Trial]
    ) -> SearchResult:
        dropped = tuple(self.screen.dropped())
        return SearchResult(
            self.folder.path, tuple(placed), best, report, tuple(trials), dropped, self.sensitivity, self.folder
        )

    def _report(self, placed: list[Candidate], best: Candidate) -> Report:
        """The original and the front, the best file last, on data that nothing was chosen by."""
        judge = self.splits.test if self.splits.test is not None else self.splits.validation
        shown = [c for c in reversed(placed) if c.recipe is not None and c is not best]
        shown = [self.base, *shown, *([best] if best.recipe is not None else [])]
        notes = [*self.space.notes]
        if self.splits.test is None:
            notes.append("No test split was given: quality was measured on the validation split, which the search saw.")
        rows = []
        for candidate in shown:
            found = measure(candidate.file, judge, metric=self.metric, masked_by=self.model)
            name = os.path.relpath(candidate.file, self.folder.path)
            rows.append(Row(candidate.name, dataclasses.replace(found, file=name)))
        recipe = best.recipe.get_config() if best.recipe is not None else None
        return Report(
            self.model.name, tuple(rows), recipe=recipe, environment=environment(seed=self.seed), notes=tuple(notes)
        )

    def _hopeless(self) -> str:
        nearest = self.screen.closest()
        if nearest is None or nearest.figures is None:
            return f"No recipe can be built for this model. {_reasons([], self.screen)}"
        far = self.budget.told(nearest.figures, self.base.figures)
        return (
            f"No recipe can meet `budget`, which was found out without training. The best is {nearest.plan}: {far}. "
            f"Allow at least that, or begin with a smaller model."
        )

    def _too_far(self, best: Candidate) -> str:
        far = self.budget.told(best.figures, self.base.figures)
        return (
            f"No file within `budget` was found in {len(self.log.trials())} trials. The best is {best.name}: {far}; it "
            f"is in `{best.file}`. Raise the limit, or give more trials or epochs."
        )


def _reasons(trials: Sequence[Trial], screen: Screen) -> str:
    failed = {trial.reason: trial.plan for trial in reversed(trials) if trial.reason}
    if failed:
        lines = [f"  {plan}: {reason}" for reason, plan in list(failed.items())[:5]]
        return "\n".join([f"None of the {len(trials)} trials completed. The reasons:", *lines])
    lines = [f"  {verdict.plan}: {verdict.reason}" for verdict in screen.dropped()[:5]]
    return "\n".join(["No trial was worth running. The reasons:", *lines])


def _splits(model: keras.Model, data: Any, seed: int, ids: bool) -> Data:
    named = isinstance(data, str | os.PathLike)
    splits = data_stage.load(data, seed=seed, ids=ids) if named else _given(data, ids)
    data_stage.check_fits(model, splits)
    if splits.validation is None:
        raise InvalidData(
            "`data` has no validation split, which the search chooses by. Give an object with .train, .validation and "
            ".test, or arrays, from which a validation split is cut."
        )
    return splits


def _given(data: Any, ids: bool) -> Data:
    if isinstance(data, Mapping):
        data = SimpleNamespace(**data)
    return data_stage.load(data, ids=ids)


def _check(trials: object, epochs: Sequence[int], optimizer: Any, learning_rate: float | None) -> None:
    for name, value in [("trials", trials), *(("epochs", value) for value in epochs)]:
        check_count(name, value)
    if learning_rate is not None:
        check_range("learning_rate", learning_rate, 0, math.inf, closed="neither")
    if isinstance(optimizer, str):
        training.optimizer(optimizer, learning_rate=learning_rate)
