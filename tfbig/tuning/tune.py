"""`tfbig.tune`: which architecture, which optimizer, which learning rate; measured over several seeds."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from tfbig import data as data_stage
from tfbig import training
from tfbig.data.dataset import Data
from tfbig.errors import InvalidArgument, InvalidData, check_count, unknown
from tfbig.exporters.export import export
from tfbig.files import atomic_file
from tfbig.measurement.measure import measure
from tfbig.measurement.quality import Metrics, check_metrics
from tfbig.report.figures import less_is_better, quality_text
from tfbig.tuning.folder import Folder
from tfbig.tuning.log import Log, Trial
from tfbig.tuning.oracles import ALGORITHMS, make_oracle
from tfbig.tuning.progress import Progress
from tfbig.tuning.range_test import range_test
from tfbig.tuning.result import NoTrialCompleted
from tfbig.tuning.rewind import rewound
from tfbig.tuning.settings import Build, Setting, SettingSpace, prepared
from tfbig.tuning.trials import RecipeTuner
from tfbig.tuning.workers import ALONE, role


@dataclasses.dataclass(frozen=True)
class Row:
    """The best setting of one optimizer, trained with several seeds.

    Args:
        qualities: on the validation split, one per seed.
    """

    setting: Setting
    learning_rate: float
    qualities: tuple[float, ...]
    seconds: float  # of one training, in the mean

    @property
    def mean(self) -> float:
        return statistics.fmean(self.qualities)

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds; 0 for a single one."""
        return statistics.stdev(self.qualities) if len(self.qualities) > 1 else 0.0


@dataclasses.dataclass(frozen=True)
class TuneResult:
    """The outcome of `tune`.

    Args:
        rows: one per optimizer, the best first.
        model: trained with the best setting and the first seed.
        test_quality: of `model` on the test split, which nothing was chosen by; None without one.
        rates: the learning rate that the range test suggests for each optimizer.
    """

    rows: tuple[Row, ...]
    model: keras.Model
    quality_name: str
    test_quality: float | None
    rates: Mapping[str, float]
    trials: tuple[Trial, ...]
    folder: Path
    keep_alive: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def best(self) -> Row:
        """The setting to take."""
        return self.rows[0]

    @property
    def table(self) -> str:
        """The optimizers side by side."""
        name = self.quality_name
        lines = [f"{'optimizer':12}{name:>12}{'spread':>10}{'seeds':>7}{'rate':>11}{'seconds':>9}  setting"]
        for row in self.rows:
            spread = f"{row.spread * 100:.2f}" if name.endswith("accuracy") else f"{row.spread:.3g}"
            others = [key for key in row.setting.varied if key not in ("optimizer", "rate")]
            said = ", ".join(f"{key}={row.setting.values[key]}" for key in others)
            lines.append(
                f"{row.setting.values['optimizer']:12}{quality_text(row.mean, name):>12}{spread:>10}"
                f"{len(row.qualities):>7}{row.learning_rate:>11.2g}{row.seconds:>9.1f}  {said}"
            )
        return "\n".join([*lines, self.verdict])

    @property
    def verdict(self) -> str:
        """A plain answer: which optimizer, and how sure that is."""
        first = f"Take {self.best.setting.values['optimizer']} at {self.best.learning_rate:.2g}."
        if self.test_quality is not None:
            told = quality_text(self.test_quality, self.quality_name)
            first += f" Its model reaches {self.quality_name.replace('_', ' ')} {told} on the test split."
        if len(self.rows) < 2 or len(self.best.qualities) < 2:
            return first
        second = self.rows[1]
        apart = abs(self.best.mean - second.mean)
        spread = math.hypot(self.best.spread, second.spread)
        sure = "more than" if apart > spread else "no more than"
        return f"{first} It is ahead of {second.setting.values['optimizer']} by {sure} the spread over the seeds."

    def __str__(self) -> str:
        return self.table


def tune(
    builder: str | Build,
    data: Any,
    *,
    space: Mapping[str, Any] | None = None,
    trials: int = 16,
    epochs: int = 3,
    seeds: int = 3,
    algorithm: str = "bayesian",
    directory: str | os.PathLike | None = None,
    loss: Any = None,
    metric: Metrics = None,
    seed: int = 0,
    verbose: Any = "auto",
) -> TuneResult:
    """Searches for the best architecture and training, and compares the optimizers over several seeds.

    A range test first suggests a learning rate for each optimizer. The trials, on KerasTuner, then vary everything in
    `space`; the best setting of each optimizer is trained with `seeds` seeds for the table. All of that looks at the
    validation split only; the model of the best setting is measured on the test split at the end.

    Args:
        builder: the name of one of `tfbig.models.names()`, or a function that makes a model, of Keras 3 or of tf_keras.
        data: what `tfbig.data.load` gives or takes.
        space: choices by name: "optimizer", "rate" (times the suggested learning rate), "schedule", "warmup",
            "batch_size", "precision", "augmentation", and arguments of the builder, such as {"depth": [8, 14]}.
        trials: trainings to choose from, 1 or more.
        epochs: passes over the data in every training.
        seeds: trainings of each optimizer's best setting for the table, 1 or more.
        algorithm: "bayesian", "random" or "hyperband".
        directory: folder of the state; a search that was stopped goes on there. None: a temporary one.
        loss: a Keras loss; None for what fits the outputs.
        metric: the quality, as for `tfbig.measure`.
        seed: of the search, and the first one of the trainings.
        verbose: 0 for silence.

    Raises:
        InvalidArgument: an unknown builder, choice or algorithm, or a value out of range; an environment that makes
            this process one of KerasTuner's workers.
        InvalidData: no validation split.
        InvalidFile: `directory` holds another search.
        NoTrialCompleted: every training failed; the message has the reasons.
    """
    for name, value in (("trials", trials), ("epochs", epochs), ("seeds", seeds)):
        check_count(name, value)
    if algorithm not in ALGORITHMS:
        raise unknown("algorithm", algorithm, ALGORITHMS)
    check_metrics(metric)
    if role() != ALONE:
        raise InvalidArgument("`tune` runs in one process: KERASTUNER_ORACLE_IP must not be set. Unset it.")
    settings = SettingSpace(builder, epochs=epochs, given=space)
    splits = data_stage.load(data)
    if splits.validation is None:
        raise InvalidData("`data` has no validation split, which the settings are chosen by. Give one.")
    name = builder if isinstance(builder, str) else getattr(builder, "__name__", "builder")
    same = {"builder": name, "choices": settings.choices, "epochs": epochs, "seed": seed, "algorithm": algorithm}
    same["data"] = [str(splits.train.element_spec), int(splits.train.cardinality())]
    folder = Folder(directory, same)
    done = len(Log(folder.path / "trials").trials())
    with Progress(trials, verbose=verbose not in (0, False), done=done) as progress:
        return _Tuning(settings, splits, folder, loss, metric, seed, progress).run(trials, seeds, algorithm)


class _Tuning:
    """One search, all arguments settled."""

    def __init__(
        self,
        space: SettingSpace,
        splits: Data,
        folder: Folder,
        loss: Any,
        metric: Metrics,
        seed: int,
        progress: Progress,
    ):
        self.space, self.splits, self.folder = space, splits, folder
        self.loss, self.metric, self.seed, self.progress = loss, metric, seed, progress
        self.log = Log(folder.path / "trials")
        self.quality_name = ""

    def run(self, trials: int, seeds: int, algorithm: str) -> TuneResult:
        self.rates = self._rates()
        oracle = make_oracle(
            algorithm, trials=trials, epochs=self.space.epochs, seed=self.seed, admit=self._is_new, first=()
        )
        self.tuner = RecipeTuner(oracle, self.space, self.trial, folder=self.folder.path)
        self.tuner.search()
        found = self.log.trials()
        best = self._best_by_optimizer(found)
        if not best:
            reasons = "\n".join(f"  {t.plan}: {t.reason}" for t in found[:5])
            raise NoTrialCompleted(f"None of the {len(found)} trials completed. The reasons:\n{reasons}")
        rows = sorted((self._row(setting, seeds) for setting in best), key=lambda row: -self._merit(row.mean))
        model, _ = self.trained(rows[0].setting, self.seed)
        test = measure(model, self.splits.test, metric=self.metric) if self.splits.test is not None else None
        export(model, self.folder.path / "best.keras")
        return TuneResult(
            tuple(rows),
            model,
            self.quality_name,
            test.quality if test is not None else None,
            self.rates,
            tuple(found),
            self.folder.path,
            self.folder,
        )

    def trial(self, number: str, setting: Setting) -> Trial:
        """Trains a setting once; whatever goes wrong is the reason in the trial."""
        if (ended := self.log.find(number, setting)) is not None:
            return ended
        died, started = self.log.begin(number), time.monotonic()
        trial = Trial(number, str(setting), dict(setting.values), setting.epochs, 0.0, reason=died)
        trial = trial if died else self._outcome(trial, setting)
        trial = dataclasses.replace(trial, seconds=time.monotonic() - started)
        self.log.write(trial)
        self.progress.done = len(self.log.trials())
        best = max((t for t in self.log.trials() if t.score is not None), key=lambda t: t.score or 0.0, default=None)
        found = f"best so far: {best.plan}, {self._told(best)}" if best else "none completed yet"
        self.progress.ended(trial, f"failed: {trial.reason}" if trial.reason else self._told(trial), found)
        return trial

    def _outcome(self, trial: Trial, setting: Setting) -> Trial:
        try:
            self.progress.doing(f"training {setting}")
            return dataclasses.replace(trial, score=self._merit(self.trained(setting, self.seed)[1]))
        except KeyboardInterrupt:
            self.log.forgive(trial.number)
            raise
        except Exception as error:  # One trial's failure, of whatever kind, is not the search's.
            return dataclasses.replace(trial, reason=f"{type(error).__name__}: {error}")

    def _told(self, trial: Trial) -> str:
        """The quality of a completed trial."""
        return f"{self.quality_name} {quality_text(self._merit(trial.score or 0.0), self.quality_name)}"

    def trained(self, setting: Setting, seed: int) -> tuple[keras.Model, float]:
        """A model trained with a setting, and its quality on the validation split."""
        values, data = setting.values, prepared(rewound(self.splits), setting.values, seed)
        keras.utils.set_random_seed(seed)
        model = self.space.model(values, self.splits)
        training.fit(
            model,
            data.train,
            epochs=setting.epochs,
            optimizer=values["optimizer"],
            learning_rate=self.rates[values["optimizer"]] * values["rate"],
            schedule=values["schedule"],
            warmup=values["warmup"],
            precision=values["precision"],
            loss=self.loss,
            verbose=0,
        )
        measured = measure(model, self.splits.validation, metric=self.metric)
        self.quality_name = measured.quality_name
        return model, float(measured.quality or 0.0)

    def _rates(self) -> dict[str, float]:
        """The suggested rate of each optimizer, on the first choice of every argument of the builder."""
        path = self.folder.path / "rates.json"
        if not path.exists():
            found = {}
            for name in self.space.choices["optimizer"]:
                self.progress.doing(f"range test of {name}")
                keras.utils.set_random_seed(self.seed)
                model = self.space.model(self.space.plan({}).values, self.splits)
                found[name] = range_test(model, rewound(self.splits).train, optimizer=name, loss=self.loss).rate
                self.progress.say(f"Range test: {name} {found[name]:.2g}")
            with atomic_file(path) as partial:
                partial.write_text(json.dumps(found), encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    def _is_new(self, values: dict[str, Any]) -> bool:
        tried = {self.space.plan(t.hyperparameters.values).key for t in self.tuner.oracle.trials.values()}
        return self.space.plan(values).key not in tried

    def _best_by_optimizer(self, trials: Sequence[Trial]) -> list[Setting]:
        best: dict[str, Trial] = {}
        for trial in trials:
            name = trial.values["optimizer"]
            if trial.score is not None and (name not in best or trial.score > (best[name].score or 0.0)):
                best[name] = trial
        return [self.space.setting(trial.values) for trial in best.values()]

    def _row(self, setting: Setting, seeds: int) -> Row:
        started = time.monotonic()
        self.progress.doing(f"training with {seeds} seeds: {setting}")
        qualities = tuple(self.trained(setting, self.seed + number)[1] for number in range(seeds))
        rate = self.rates[setting.values["optimizer"]] * setting.values["rate"]
        return Row(setting, rate, qualities, (time.monotonic() - started) / seeds)

    def _merit(self, quality: float) -> float:
        return -quality if less_is_better(self.quality_name) else quality
