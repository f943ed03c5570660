"""`tfbig.compress`: runs a recipe on a model, and measures the file of every stage."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Mapping
from typing import Any

import keras

from tfbig import data as data_stage
from tfbig import training
from tfbig.compression.native.clone import check_keras_model, check_trainable, clone, first_line, without_lora
from tfbig.compression.recipe import Recipe, Stage, as_recipe, describe
from tfbig.compression.technique import Technique
from tfbig.compression.techniques.preserve import Preserve
from tfbig.errors import InvalidArgument, InvalidModel, TfbigError, check_count, check_range
from tfbig.exporters.associated_files import check_associated_files
from tfbig.measurement.measure import Measurement
from tfbig.measurement.quality import Metrics, check_metrics
from tfbig.pipeline import invariants
from tfbig.pipeline.result import Delivery, Result, StageFailed, StageResult
from tfbig.pipeline.teaching import with_answers
from tfbig.pipeline.work import Work, fingerprint
from tfbig.report.figures import count_text, quality_text
from tfbig.training.compilation import compiled_settings, takes_class_ids
from tfbig.training.feed import feed
from tfbig.training.losses import check_loss, fitting_loss

_SAMPLE_BATCHES = 8  # of the training data, for techniques that look at some
_HOLDS_STRUCTURE = {"prune", "quantize", "preserve"}  # techniques that keep zeros and clusters themselves


def compress(
    model: keras.Model,
    recipe: Any,
    *,
    train: Any,
    validation: Any = None,
    test: Any = None,
    epochs: int = 3,
    learning_rate: float | None = None,
    optimizer: Any = "adam",
    loss: Any = None,
    metrics: Any = None,
    metric: Metrics = None,
    associated_files: Mapping[str, str] | None = None,
    seed: int = 0,
    directory: str | os.PathLike | None = None,
    resume: bool = False,
    verbose: Any = "auto",
) -> Result:
    """Runs the stages of a recipe one after another: prepare, train, finish, export, measure.

    The model itself is not touched. Each stage starts from what the one before left, keeps the zeros and clusters that
    are there, and is checked for what it and earlier stages promised, down to the exported file.

    Args:
        model: a built Keras 3 model.
        recipe: a `Recipe`, the name of one, a path to one, a technique, or a list of stages.
        train: a batched `tf.data.Dataset` of `(x, y)` or `(x, y, sample_weight)`, a tuple of arrays, or a `PyDataset`.
            Nothing is cut from it.
        validation: the same, shown while training; never used to fit anything.
        test: the same; the quality in the table is measured on it alone. Without it, on `validation`, and a note says
            so.
        epochs: passes over `train` in every stage.
        learning_rate: at the start of every stage, above 0; it falls to zero by a cosine. None: the optimizer's own.
        optimizer: name or instance of a Keras optimizer.
        loss, metrics: as in Keras `compile`; by default those that the model was compiled with, else what its outputs
            ask for.
        metric: the quality in the table, as of `tfbig.measure`: a name, or a function `(labels, outputs) -> float`.
        associated_files: text by file name that every file carries, as of `tfbig.export`.
        seed: of dropout and of whatever else is random in a stage.
        directory: a folder that holds the finished stages until the result is saved, so that a run which is killed is
            not lost.
        resume: go on behind the stages that `directory` holds, with the same result as a run that never stopped.
        verbose: as in Keras `fit`.

    Raises:
        StageFailed: a stage could not be run; its `result` holds what the stages before reached.
        InvalidData: the data does not fit the model.
        OutputExists: `directory` holds a run and `resume` is false.
        InvalidFile: `directory` holds the run of another model, recipe or setting.
    """
    check_keras_model(model)
    check_trainable(model)
    recipe = as_recipe(recipe)
    _check(epochs, optimizer, learning_rate, loss, directory, resume)
    check_metrics(metric)
    check_associated_files(associated_files or {})
    splits = data_stage.splits(train=train, validation=validation, test=test, ids=takes_class_ids(model, loss))
    data_stage.check_fits(model, splits)
    settings = {"optimizer": optimizer, "learning_rate": learning_rate, "loss": loss, "metrics": metrics}
    settings = {**settled(model, splits, settings), "epochs": epochs}
    delivery = Delivery(metric, dict(associated_files or {}), model)
    same = {"recipe": recipe.get_config()["stages"], **identity(model, splits, settings, seed, delivery)}
    work = Work(directory, same, resume=resume)
    return Run(model, splits, {**settings, "verbose": verbose}, seed, work, delivery).run(recipe)


class Run:
    """One recipe on one model."""

    def __init__(
        self, model: keras.Model, splits: Any, settings: dict[str, Any], seed: int, work: Work, delivery: Delivery
    ):
        self.original, self.splits, self.settings, self.seed, self.work = model, splits, settings, seed, work
        self.delivery = delivery
        self.samples: list[Any] | None = None
        self.judge = splits.test if splits.test is not None else splits.validation
        self.notes: tuple[str, ...] = ()
        if splits.test is None:
            where = "was measured on the validation split" if splits.validation is not None else "was not measured"
            self.notes = (f"No test split was given: quality {where}.",)

    def run(self, recipe: Recipe) -> Result:
        names = ["float", *(f"{number} {describe(stage)}" for number, stage in enumerate(recipe.stages, start=1))]
        stages = self.work.finished(names)
        if any(technique.needs_data for stage in recipe.stages for technique in stage):
            # Before all training, also in a run that goes on: each iteration moves the order of the data on.
            self.samples = list(feed(self.splits.train).train.take(_SAMPLE_BATCHES))
        model = self.start(stages)
        promised: list[Technique] = []
        for number, stage in enumerate(recipe.stages, start=1):
            promised = _still_promised(promised, stage)
            if number < len(stages):
                self.say(f"Stage {number} of {len(recipe.stages)}: {describe(stage)}: finished before")
                continue
            self.say(f"Stage {number} of {len(recipe.stages)}: {describe(stage)}")
            try:
                model, result = self.stage(stage, names[number], model, number, promised)
            except Exception as error:  # Nothing that goes wrong here may cost what was reached before.
                raise self.failed(recipe, number, model, stages, error) from error
            stages.append(result)
        return self.result(recipe, model, stages)

    def start(self, stages: list[StageResult]) -> keras.Model:
        """The model that the next stage works on; measures the original if that was not done yet."""
        if stages:
            # As many iterations of the data as the finished stages made: the next ones get the order that they would
            # have got.
            feed(self.splits.train).epochs_from((len(stages) - 1) * self.settings["epochs"], 0)
            return self.work.model(stages[-1], self.original)
        try:
            started = time.monotonic()
            model = clone(without_lora(self.original))
            stages.append(self.measured("float", model, {}, started))
            self.work.keep(stages[0], model)
        except Exception:
            self.work.forget()
            raise
        return model

    def stage(
        self, stage: Stage, name: str, model: keras.Model, number: int, promised: list[Technique]
    ) -> tuple[keras.Model, StageResult]:
        """The model after one stage, and what was measured on its file."""
        started = time.monotonic()
        keras.utils.set_random_seed(self.seed + number)
        model, history = self.train(stage, model)
        invariants.check_model(promised, model)
        result = self.measured(name, model, history, started)
        invariants.check_file(model, result.measurement)
        invariants.check_clusters(model, result.file)
        self.work.keep(result, model)
        return model, result

    def train(self, stage: Stage, model: keras.Model) -> tuple[keras.Model, dict]:
        """The model after the training of a stage, and the history of it."""
        given = {"data": self.samples, "loss": self.settings.get("loss")}
        techniques = [t.informed(self.original, **given) for t in in_order(stage, model)]
        for technique in techniques:
            model = technique.prepare(model)
        if "loss" not in self.settings and _has_its_own_loss(self.original):
            if not _has_its_own_step(model):
                raise InvalidModel(
                    f"'{self.original.name}' is trained by a step of its own, which {describe(stage)} cannot keep: it "
                    "builds another model. Pass `loss`."
                )
            model.compile()  # As the original is: then `fit` asks for no loss. The optimizer is of the settings.
        callbacks = [callback for technique in techniques for callback in technique.callbacks()]
        history = training.fit(
            model,
            with_answers(techniques, self.splits.train, self.work.answers),
            validation_data=self.splits.validation,
            schedule="cosine",
            callbacks=callbacks,
            **self.settings,
        )
        for technique in reversed(techniques):
            model = technique.finish(model)
        return model, history.history

    def measured(self, name: str, model: keras.Model, history: dict, started: float) -> StageResult:
        file, measurement = self.delivery.written(model, self.work.file(name), self.judge)
        result = StageResult(name, file, measurement, time.monotonic() - started, history)
        self.say(f"{file.name}: {_told(measurement)}", indent="  ")
        return result

    def result(self, recipe: Recipe, model: keras.Model, stages: list[StageResult], *notes: str) -> Result:
        return Result(
            model,
            recipe,
            tuple(stages),
            self.seed,
            (*self.notes, *notes),
            test=self.judge,
            work=self.work,
            delivery=self.delivery,
        )

    def failed(
        self, recipe: Recipe, number: int, model: keras.Model, stages: list[StageResult], error: Exception
    ) -> StageFailed:
        """The error to raise; it carries the result of the stages before, with a recipe of just these."""
        kind = "" if isinstance(error, TfbigError) else f"{type(error).__name__}: "
        message = f"Stage {number} ({describe(recipe.stages[number - 1])}) failed: {kind}{error}"
        if number == 1:
            self.work.forget()
            return StageFailed(message)
        done = Recipe(recipe.stages[: number - 1], recipe.name, recipe.description)
        note = f"The recipe was not finished. {message}"
        return StageFailed(message, self.result(done, model, stages, note))

    def say(self, text: str, indent: str = "\n") -> None:
        if self.settings["verbose"]:
            print(f"{indent}{text}", flush=True)


def _check(
    epochs: object, optimizer: Any, learning_rate: float | None, loss: Any, directory: Any, resume: bool
) -> None:
    """Raises now what would else be raised after the original has been exported and measured."""
    check_count("epochs", epochs)
    if resume and directory is None:
        raise InvalidArgument("`resume` needs `directory`, the folder that holds the finished stages, received None.")
    if learning_rate is not None:
        check_range("learning_rate", learning_rate, 0, math.inf, closed="neither")
    if isinstance(optimizer, str):
        training.optimizer(optimizer, learning_rate=learning_rate)
    elif hasattr(optimizer, "get_config"):
        _check_copies(optimizer)
    for name in keras.tree.flatten(loss):
        if isinstance(name, str):
            check_loss(name)


def _check_copies(optimizer: Any) -> None:
    """Raises `InvalidArgument` unless each stage can have an optimizer of its own like this one."""
    try:
        type(optimizer).from_config(optimizer.get_config())
    except (NotImplementedError, TypeError, ValueError) as error:
        raise InvalidArgument(
            f"`optimizer` cannot be made again for each stage: {first_line(error)} Give its learning rate schedule a "
            "get_config() that returns all arguments of __init__, or a number in its place."
        ) from error


def identity(
    model: keras.Model, splits: Any, settings: dict[str, Any], seed: int, delivery: Delivery
) -> dict[str, Any]:
    """What makes two runs the same run, besides the recipe."""
    return {
        "model": fingerprint(model),
        "data": [str(splits.train.element_spec), int(splits.train.cardinality())],
        "seed": seed,
        "metric": _kind(delivery.metric),
        "associated_files": delivery.associated_files,
        **{name: value if isinstance(value, int | float | str) else _kind(value) for name, value in settings.items()},
    }


def _kind(value: Any) -> Any:
    """Settings that are objects, as what can be compared between processes."""
    if hasattr(value, "get_config"):
        with contextlib.suppress(NotImplementedError):  # as of a schedule of the user's own
            return [type(value).__name__, value.get_config()]
    if isinstance(value, Mapping):
        return {name: _kind(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_kind(item) for item in value]
    plain = value is None or isinstance(value, int | float | str)
    return value if plain else getattr(value, "__name__", type(value).__name__)


def _told(m: Measurement) -> str:
    quality = [f"{m.quality_name} {quality_text(m.quality, m.quality_name)}"] if m.quality is not None else []
    return ", ".join([*quality, f"{count_text(m.bytes)} bytes", f"{count_text(m.gzip_bytes)} gzipped"])


def in_order(stage: Stage, model: keras.Model) -> list[Technique]:
    """The stage's techniques in the order of preparing, with `Preserve` where what `model` has is to be kept."""
    techniques: list[Technique] = sorted(stage, key=lambda technique: technique.wraps)
    names = {technique.name for technique in techniques}
    keep = Preserve(clusters="cluster" not in names)
    by_tfmot = any(getattr(technique, "engine", None) == "tfmot" for technique in techniques)  # It keeps zeros itself.
    if not by_tfmot and not _HOLDS_STRUCTURE & names and keep.applies_to(model):
        # What others rewrite before it wraps the model is not there any more to be kept.
        techniques.insert(sum(not technique.wraps for technique in techniques), keep)
    return techniques


def _still_promised(promised: list[Technique], stage: Stage) -> list[Technique]:
    """What holds after `stage`: a technique that runs again replaces its earlier promise."""
    again = {technique.name for technique in stage}
    return [technique for technique in promised if technique.name not in again] + list(stage)


def settled(model: keras.Model, splits: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The settings of every stage: those given, else those that the model was compiled with, else what fits it.

    The loss is chosen here, for the original: a model in compression does not show what its last activation was.
    """
    found = {**compiled_settings(model), **{name: value for name, value in given.items() if value is not None}}
    if "loss" not in found and not _has_its_own_loss(model):
        with contextlib.suppress(InvalidModel):  # The training will say so, if there is one.
            data = feed(splits.train, validation_data=splits.validation)
            loss, metrics = fitting_loss(model, data.label_spec, 0.0, data.first_labels)
            found = {"metrics": metrics, **found, "loss": loss}
    return found


def _has_its_own_loss(model: keras.Model) -> bool:
    """Whether the user's own step makes up the loss: the model is compiled without one."""
    return model.compiled and model._compile_loss is None and _has_its_own_step(model)


def _has_its_own_step(model: keras.Model) -> bool:
    names = ("train_step", "compute_loss", "_compute_loss")
    return any(getattr(type(model), name, None) is not getattr(keras.Model, name, None) for name in names)
