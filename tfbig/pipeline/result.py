"""What `compress` gives back: the model, the files it measured, and the report on them."""

from __future__ import annotations

import dataclasses
import functools
import os
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfbig.compression.native.clone import custom_objects_of
from tfbig.compression.recipe import Recipe
from tfbig.errors import ConversionFailed, InvalidModel, TfbigError
from tfbig.exporters.export import export
from tfbig.files import atomic_folder
from tfbig.measurement.inspect import inspect
from tfbig.measurement.measure import Measurement, measure
from tfbig.measurement.quality import Metrics
from tfbig.report.environment import environment
from tfbig.report.html import html
from tfbig.report.report import Report, Row


class StageFailed(TfbigError, RuntimeError):
    """A stage of a recipe failed; `result` is the last good result, or None if there was none."""

    def __init__(self, message: str, result: Result | None = None):
        super().__init__(message)
        self.result = result


@dataclasses.dataclass(frozen=True)
class StageResult:
    """A stage, its file, and what was measured on that file."""

    name: str
    file: Path
    measurement: Measurement
    seconds: float
    history: dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Delivery:
    """How a model becomes a measured file: the metric, what the file carries beside it, and whose masks count."""

    metric: Metrics = None
    associated_files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    masked_by: keras.Model | None = None

    def written(self, model: keras.Model, path: Path, data: Any) -> tuple[Path, Measurement]:
        """Writes `model` to `path`; returns the path and what was measured on it."""
        file = export(model, path, associated_files=self.associated_files)
        return file, measure(file, data, metric=self.metric, masked_by=self.masked_by)


@dataclasses.dataclass(frozen=True)
class Result:
    """A compressed model and its proof.

    Args:
        model: the Keras model after the last stage.
        recipe: what was done.
        stages: what was measured; the first is the original model as a float LiteRT file.
        seed: of the training.
        notes: what a reader of the figures must know.
        saved: what `save` wrote besides LiteRT files, measured.
        test: the data that the quality was measured on.
        delivery: how files are written and measured.
        work: holds the stages' files until `save` copies them; see `tfbig.pipeline.work`.
    """

    model: keras.Model
    recipe: Recipe
    stages: tuple[StageResult, ...]
    seed: int
    notes: tuple[str, ...] = ()
    saved: tuple[StageResult, ...] = ()
    test: Any = dataclasses.field(default=None, repr=False, compare=False)
    delivery: Delivery = dataclasses.field(default=Delivery(), repr=False, compare=False)
    work: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def file(self) -> Path:
        """The LiteRT file of the last stage."""
        return self.stages[-1].file

    @property
    def table(self) -> str:
        """The before and after of every stage, as text."""
        return str(self.report)

    @functools.cached_property
    def report(self) -> Report:
        """All figures, with the recipe, the environment and what is inside the files."""
        return self._report(None)

    def save(self, folder: str | os.PathLike, *, saved_model: bool = False, overwrite: bool = False) -> Result:
        """Writes `model.keras`, `model.tflite`, `report.html`, `report.json` and `recipe.json` into `folder`.

        `model.tflite` and those of the earlier stages, in `stages/`, are the files that were measured, byte for byte.
        The others are read back and measured where they lie; one that cannot be is left out, with a warning and a note.

        Args:
            saved_model: write the folder `saved_model/` too.
            overwrite: replace what `folder` holds.

        Returns:
            The result with the saved files in place of the temporary ones.

        Raises:
            OutputExists: `folder` holds something and `overwrite` is false.
        """
        with atomic_folder(folder, overwrite=overwrite) as partial:
            names = ["model.keras", *(["saved_model"] if saved_model else [])]
            saved, notes = zip(*[self._saved(partial, name) for name in names], strict=True)
            written = dataclasses.replace(
                self,
                stages=self._copied(partial),
                saved=tuple(result for result in saved if result),
                notes=(*self.notes, *(note for note in notes if note)),
            )
            report = written._report(partial)
            report.save(partial / "report.json")
            (partial / "report.html").write_text(html(report), encoding="utf-8")
            (partial / "recipe.json").write_text(self.recipe.to_json(), encoding="utf-8")
        if self.work is not None:
            self.work.forget()
        return written._moved(partial, Path(folder))

    def _saved(self, folder: Path, name: str) -> tuple[StageResult | None, str | None]:
        """The file, measured, or why there is none: what took hours to train is not lost by that."""
        started = time.monotonic()
        try:
            with keras.saving.custom_object_scope(custom_objects_of(self.model)):
                path, measurement = self.delivery.written(self.model, folder / name, self.test)
        except (ConversionFailed, InvalidModel) as error:
            note = f"{name} was not {'measured' if (folder / name).exists() else 'written'}: {error}"
            warnings.warn(note, stacklevel=3)
            return None, note
        return StageResult(name, path, measurement, time.monotonic() - started, {}), None

    def _copied(self, folder: Path) -> tuple[StageResult, ...]:
        (folder / "stages").mkdir()
        targets = [folder / "stages" / stage.file.name for stage in self.stages[:-1]] + [folder / "model.tflite"]
        for stage, target in zip(self.stages, targets, strict=True):
            shutil.copyfile(stage.file, target)
        return tuple(dataclasses.replace(s, file=target) for s, target in zip(self.stages, targets, strict=True))

    def _moved(self, old: Path, new: Path) -> Result:
        def moved(results: tuple[StageResult, ...]) -> tuple[StageResult, ...]:
            return tuple(dataclasses.replace(r, file=new / r.file.relative_to(old)) for r in results)

        return dataclasses.replace(self, stages=moved(self.stages), saved=moved(self.saved))

    def _report(self, folder: Path | None) -> Report:
        """The report, with file names relative to `folder` if it is given.

        What is delivered stands last, behind the other files of the same model: a verdict speaks of the last row.
        """
        results = (*self.stages[:-1], *self.saved, self.stages[-1])
        names = [str(r.file.relative_to(folder)) if folder else str(r.file) for r in results]
        return Report(
            title=self.model.name,
            rows=tuple(
                Row(r.name, dataclasses.replace(r.measurement, file=name), r.seconds)
                for name, r in zip(names, results, strict=True)
            ),
            histories={stage.name: stage.history for stage in self.stages if stage.history},
            recipe=self.recipe.get_config(),
            environment=environment(seed=self.seed),
            notes=self.notes,
            files={r.name: name for name, r in zip(names, results, strict=True)},
            inspections={
                name: dataclasses.replace(inspect(r.file, times=folder is not None), file=name)
                for name, r in zip(names, results, strict=True)
                if r.file.suffix == ".tflite"
            },
        )

    def __str__(self) -> str:
        return self.table
