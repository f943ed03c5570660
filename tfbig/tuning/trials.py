"""Runs plans as trials of KerasTuner: each one is trained, measured and recorded, or failed with its reason."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.errors import FailedTrialError

from tfbig.data.dataset import Data
from tfbig.pipeline.compress import Run
from tfbig.pipeline.result import Delivery
from tfbig.pipeline.work import Work
from tfbig.tuning.log import Log, Trial
from tfbig.tuning.oracles import OBJECTIVE, Screened, write_state
from tfbig.tuning.rewind import rewound
from tfbig.tuning.shelf import Candidate, Shelf
from tfbig.tuning.space import Plan


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
        died, started = self.log.begin(number), time.monotonic()
        trial = Trial(number, str(plan), dict(plan.values), plan.epochs, 0.0, reason=died)
        trial = trial if died else self._outcome(trial, plan)
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
        data = rewound(self.data)
        # What each file is judged by need not be looked at while it is trained.
        judged = dataclasses.replace(data, validation=None, test=data.validation)
        return Run(self.model, judged, {**self.settings, "epochs": epochs}, self.seed, work, self.delivery)


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
