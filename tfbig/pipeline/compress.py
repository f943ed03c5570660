"""`tfbig.compress`: runs a recipe on a model, and measures the file of every stage."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras

from tfbig import data as data_stage
from tfbig import training
from tfbig.compression.native.clone import check_keras_model, clone
from tfbig.compression.recipe import Recipe, Stage, as_recipe, describe
from tfbig.compression.technique import Technique
from tfbig.compression.techniques.distill import Distill
from tfbig.compression.techniques.preserve import Preserve
from tfbig.errors import InvalidArgument, TfbigError
from tfbig.exporters.export import export
from tfbig.measurement.measure import measure
from tfbig.pipeline import invariants
from tfbig.pipeline.result import Result, StageFailed, StageResult, new_scratch

_HOLDS_STRUCTURE = {"prune", "cluster", "quantize", "preserve"}  # techniques that keep zeros and clusters themselves


def compress(
    model: keras.Model,
    recipe: Any,
    *,
    train: Any,
    validation: Any = None,
    test: Any = None,
    epochs: int = 3,
    learning_rate: float = 1e-3,
    optimizer: Any = "adam",
    loss: Any = None,
    metrics: Any = None,
    seed: int = 0,
    verbose: Any = "auto",
) -> Result:
    """Runs the stages of a recipe one after another: prepare, train, finish, export, measure.

    The model itself is not touched. Each stage starts from what the one before left, keeps the zeros and clusters that are
    there, and is checked for what it and earlier stages promised, down to the exported file.

    Args:
        model: a built Keras 3 model.
        recipe: a `Recipe`, the name of one, a path to one, a technique, or a list of stages.
        train: a batched `tf.data.Dataset` of `(x, y)`, or a tuple of arrays.
        validation: the same, shown while training; never used to fit anything.
        test: the same; the quality in the table is measured on it alone. Without it, on `validation`, and a note says so.
        epochs: passes over `train` in every stage.
        learning_rate: at the start of every stage; it falls to zero by a cosine.
        optimizer: name or instance of a Keras optimizer.
        loss, metrics: as in Keras `compile`; by default those that the model was compiled with, else what its outputs ask
            for.
        seed: of shuffling and dropout.
        verbose: as in Keras `fit`.

    Raises:
        StageFailed: a stage could not be run; its `result` holds what the stages before reached.
        InvalidData: the data does not fit the model.
    """
    check_keras_model(model)
    recipe = as_recipe(recipe)
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise InvalidArgument(f"`epochs` must be a whole number, at least 1, received {epochs!r}.")
    splits = data_stage.load(SimpleNamespace(train=train, validation=validation, test=test))
    data_stage.check_fits(model, splits)
    keras.utils.set_random_seed(seed)
    settings = {"optimizer": optimizer, "learning_rate": learning_rate, "loss": loss, "metrics": metrics}
    settings = {**_compiled_settings(model), **{k: v for k, v in settings.items() if v is not None}}
    run = _Run(model, splits, {**settings, "epochs": epochs, "verbose": verbose}, seed)
    return run.run(recipe)


class _Run:
    """One recipe on one model."""

    def __init__(self, model: keras.Model, splits: Any, settings: dict[str, Any], seed: int):
        self.original, self.splits, self.settings, self.seed = model, splits, settings, seed
        self.scratch = new_scratch()
        self.notes: list[str] = []
        self.judge = splits.test if splits.test is not None else splits.validation
        if splits.test is None:
            self.notes.append(
                "No test split was given: quality was measured on the validation split."
                if splits.validation is not None
                else "No test split was given: quality was not measured."
            )

    def run(self, recipe: Recipe) -> Result:
        model = clone(self.original)
        stages = [self.measured("float", model, {}, time.monotonic())]
        promised: list[Technique] = []
        for number, stage in enumerate(recipe.stages, start=1):
            try:
                started = time.monotonic()
                model, history = self.train(stage, model, number, len(recipe.stages))
                promised = _still_promised(promised, stage)
                invariants.check_model(promised, model)
                stages.append(self.measured(f"{number} {describe(stage)}", model, history, started))
                invariants.check_file(model, stages[-1].measurement)
            except TfbigError as error:
                so_far = self.result(recipe, model, stages) if number > 1 else None
                raise StageFailed(f"Stage {number} ({describe(stage)}) failed: {error}", so_far) from error
        return self.result(recipe, model, stages)

    def result(self, recipe: Recipe, model: keras.Model, stages: list[StageResult]) -> Result:
        return Result(
            model, recipe, tuple(stages), self.seed, tuple(self.notes), test=self.judge, scratch=self.scratch
        )

    def train(self, stage: Stage, model: keras.Model, number: int, count: int) -> tuple[keras.Model, dict]:
        """The model after the stage, and the history of its training."""
        techniques = _in_order(stage, model, self.original)
        for technique in techniques:
            model = technique.prepare(model)
        if self.settings["verbose"]:
            print(f"\nStage {number} of {count}: {describe(stage)}", flush=True)
        callbacks = [callback for technique in techniques for callback in technique.callbacks()]
        history = training.fit(
            model,
            self.splits.train,
            validation_data=self.splits.validation,
            schedule="cosine",
            callbacks=callbacks,
            **self.settings,
        )
        for technique in reversed(techniques):
            model = technique.finish(model)
        return model, history.history

    def measured(self, name: str, model: keras.Model, history: dict, started: float) -> StageResult:
        file = Path(self.scratch.name) / f"{name.replace(' ', '-').replace('+', 'and')}.tflite"
        export(model, file)
        measurement = measure(file, self.judge)
        return StageResult(name, file, measurement, time.monotonic() - started, history)


def _in_order(stage: Stage, model: keras.Model, original: keras.Model) -> list[Technique]:
    """The stage's techniques in the order of preparing, with what they leave unsaid filled in."""
    techniques: list[Technique] = sorted(stage, key=lambda technique: technique.wraps)
    if not _HOLDS_STRUCTURE & {t.name for t in techniques} and Preserve().applies_to(model):
        techniques.insert(0, Preserve())
    return [t.with_teacher(original) if isinstance(t, Distill) and t.teacher is None else t for t in techniques]


def _still_promised(promised: list[Technique], stage: Stage) -> list[Technique]:
    """What holds after `stage`: a technique that runs again replaces its earlier promise."""
    again = {technique.name for technique in stage}
    return [technique for technique in promised if technique.name not in again] + list(stage)


def _compiled_settings(model: keras.Model) -> dict[str, Any]:
    """The loss and the metrics that the model was compiled with; metrics are copies, for they hold a state."""
    if not model.compiled or model._compile_loss is None:
        return {}
    metrics = (model.get_compile_config() or {}).get("metrics")
    settings = {"loss": model._compile_loss._user_loss, "metrics": keras.saving.deserialize_keras_object(metrics)}
    return {name: value for name, value in settings.items() if value is not None}
