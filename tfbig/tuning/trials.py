"""Runs plans as trials of KerasTuner: each one is trained, measured and recorded, or failed with its reason."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.errors import FailedTrialError

from tfbig.data.dataset import Data
from tfbig.files import atomic_file
from tfbig.pipeline.compress import Run
from tfbig.pipeline.result import Delivery
from tfbig.pipeline.work import Work
from tfbig.tuning.oracles import OBJECTIVE, Screened, write_state
from tfbig.tuning.rewind import rewound
from tfbig.tuning.shelf import Candidate, Shelf
from tfbig.tuning.space import Plan

_STARTS = 3  # How often a trial may begin; one that never ends takes the process down, or never had the time.


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of one trial.

    Attributes:
        stages: names of the files on the shelf of those stages that were finished.
        reason: why it failed; None if it was completed.
        score: what the search maximizes; None for a failed trial.
    """

    number: str
    plan: str
    values: dict[str, Any]
    epochs: int
    seconds: float
    stages: tuple[str, ...] = ()
    reason: str | None = None
    score: float | None = None


class Log:
    """The trials' records in a folder, one file each, written whole when a trial ends."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def trials(self) -> list[Trial]:
        """All trials that ended, in their order."""
        entries = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("*.json"))]
        trials = [Trial(**{**entry, "stages": tuple(entry["stages"])}) for entry in entries]
        return sorted(trials, key=lambda trial: int(trial.number))

    def find(self, number: str, plan: Any) -> Trial | None:
        """The record of a trial that ended before the search was stopped, though KerasTuner did not learn of it."""
        path = self.folder / f"{number}.json"
        entry = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if (entry.get("plan"), entry.get("epochs")) != (str(plan), plan.epochs):
            return None
        return Trial(**{**entry, "stages": tuple(entry["stages"])})

    def write(self, trial: Trial) -> None:
        with atomic_file(self.folder / f"{trial.number}.json") as partial:
            partial.write_text(json.dumps(dataclasses.asdict(trial)), encoding="utf-8")
        self.forgive(trial.number)

    def forgive(self, number: str) -> None:
        """Forgets that a trial has begun."""
        (self.folder / f"{number}.started").unlink(missing_ok=True)

    def start(self, number: str) -> int:
        """Counts how often a trial has begun without an end."""
        path = self.folder / f"{number}.started"
        count = len(path.read_text(encoding="utf-8")) if path.exists() else 0
        with path.open("a", encoding="utf-8") as file:
            file.write("x")
        return count + 1


class Trials:
    """Runs one plan after another on the same model, data and seed.

    Args:
        score: what is maximized, from the candidate of a plan's last stage.
    """

    def __init__(
        self,
        model: keras.Model,
        data: Data,
        settings: dict[str, Any],
        *,
        seed: int,
        delivery: Delivery,
        shelf: Shelf,
        log: Log,
        score: Callable[[Candidate], float],
    ):
        self.model, self.data, self.settings, self.seed = model, data, settings, seed
        self.delivery, self.shelf, self.log, self.score = delivery, shelf, log, score

    def original(self) -> Candidate:
        """The model as it is, as a float file."""
        work = self.shelf.work(None, self.settings["epochs"])
        if not work.finished(["float"]):
            self._runner(work, self.settings["epochs"]).start([])
        return work.candidate("float")

    def run(self, number: str, plan: Plan) -> Trial:
        """Trains and measures a plan; whatever goes wrong is the reason in the trial."""
        begun, started = self.log.start(number), time.monotonic()
        trial = Trial(number, str(plan), dict(plan.values), plan.epochs, 0.0)
        if begun > _STARTS:
            trial = dataclasses.replace(trial, reason=f"The process died in the middle of it {_STARTS} times.")
        else:
            trial = self._outcome(trial, plan)
        trial = dataclasses.replace(trial, seconds=time.monotonic() - started)
        self.log.write(trial)
        gc.collect()  # Models hold themselves by cycles; the next one needs the memory.
        return trial

    def _outcome(self, trial: Trial, plan: Plan) -> Trial:
        assert plan.recipe is not None
        work = self.shelf.work(plan.recipe, plan.epochs)
        try:
            result = self._runner(work, plan.epochs).run(plan.recipe)
            names = tuple(work.place(stage.name).name for stage in result.stages)
            score = self.score(work.candidate(result.stages[-1].name))
            return dataclasses.replace(trial, stages=names, score=score)
        except KeyboardInterrupt:
            self.log.forgive(trial.number)
            raise
        except Exception as error:  # One trial's failure, of whatever kind, is not the search's.
            done = getattr(getattr(error, "result", None), "stages", ())
            names = tuple(work.place(stage.name).name for stage in done)
            return dataclasses.replace(trial, stages=names, reason=str(error) or type(error).__name__)
        finally:
            work.forget()

    def _runner(self, work: Work, epochs: int) -> Run:
        settings = {**self.settings, "epochs": epochs}
        return Run(self.model, rewound(self.data), settings, self.seed, work, self.delivery)


class RecipeTuner(BaseTuner):
    """KerasTuner's tuner, whose trials are plans; it takes up what its folder holds.

    Args:
        run: runs a plan and returns its trial.
    """

    def __init__(
        self,
        oracle: Screened,
        space: Any,
        run: Callable[[str, Any], Trial],
        *,
        folder: Path,
        name: str = "keras_tuner",
    ):
        self.run, self.space = run, space
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(oracle, space, directory=str(folder), project_name=name)

    def run_trial(self, trial: Any, *arguments: Any, **options: Any) -> dict[str, float]:
        values = dict(trial.hyperparameters.values)
        plan = self.space.plan(values)
        if "tuner/epochs" in values:  # Hyperband says how long.
            plan = dataclasses.replace(plan, epochs=values["tuner/epochs"])
        ended = self.run(trial.trial_id, plan)
        if ended.score is None:
            raise FailedTrialError(ended.reason or "")
        return {OBJECTIVE: ended.score}

    def _try_run_and_update_trial(self, trial: Any, *arguments: Any, **options: Any) -> None:
        """As KerasTuner's, without a traceback on the terminal; errors that are no trial's own are not hidden."""
        try:
            self._run_and_update_trial(trial, *arguments, **options)
            trial.status = TrialStatus.COMPLETED
        except FailedTrialError as error:
            trial.status, trial.message = TrialStatus.FAILED, str(error)

    def save(self) -> None:
        if not self._is_worker():
            self.oracle.save()
        write_state(self._get_tuner_fname(), self.get_state())
