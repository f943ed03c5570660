"""What `compress` gives back: the model, the files it measured, and the report on them."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import keras

from tfbig.compression.recipe import Recipe
from tfbig.errors import TfbigError
from tfbig.exporters.export import export
from tfbig.files import atomic_folder
from tfbig.measurement.inspect import inspect
from tfbig.measurement.measure import Measurement, measure
from tfbig.report.environment import environment
from tfbig.report.report import Report, Row


class StageFailed(TfbigError, RuntimeError):
    """A stage of a recipe failed; `result` is the last good result, or None if there was none."""

    def __init__(self, message: str, result: Result | None = None):
        super().__init__(message)
        self.result = result


@dataclasses.dataclass(frozen=True)
class StageResult:
    """A stage, its LiteRT file, and what was measured on that file."""

    name: str
    file: Path
    measurement: Measurement
    seconds: float
    history: dict[str, list[float]]


@dataclasses.dataclass(frozen=True)
class Result:
    """A compressed model and its proof.

    Args:
        model: the Keras model after the last stage.
        recipe: what was done.
        stages: what was measured; the first is the original model as a float LiteRT file.
        seed: of the training.
        saved: what `save` wrote besides LiteRT files, measured.
        notes: what a reader of the figures must know.
        test: the data that the quality was measured on.
        scratch: the temporary folder that holds the stages' files until `save` copies them; it goes with the result.
    """

    model: keras.Model
    recipe: Recipe
    stages: tuple[StageResult, ...]
    seed: int
    notes: tuple[str, ...] = ()
    saved: tuple[StageResult, ...] = ()
    test: Any = dataclasses.field(default=None, repr=False, compare=False)
    scratch: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def file(self) -> Path:
        """The LiteRT file of the last stage."""
        return self.stages[-1].file

    @property
    def table(self) -> str:
        """The before and after of every stage, as text."""
        from tfbig.report.table import text

        return text(self.report)

    @property
    def report(self) -> Report:
        """All figures, with the recipe, the environment and what is inside the files."""
        return self.report_from(None)

    def save(self, folder: str | os.PathLike, *, saved_model: bool = False, overwrite: bool = False) -> Result:
        """Writes `model.keras`, `model.tflite`, `report.html`, `report.json` and `recipe.json` into `folder`.

        `stages/` holds the LiteRT files of all stages; `model.tflite` is the last of them. Every file is read back and
        measured where it lies.

        Args:
            saved_model: write the folder `saved_model/` too.
            overwrite: replace what `folder` holds.

        Returns:
            The result with the saved files, and their figures, in place of the temporary ones.

        Raises:
            OutputExists: `folder` holds something and `overwrite` is false.
        """
        from tfbig.report.html import html

        with atomic_folder(folder, overwrite=overwrite) as partial:
            (partial / "stages").mkdir()
            for stage in self.stages:
                shutil.copyfile(stage.file, partial / "stages" / stage.file.name)
            shutil.copyfile(self.file, partial / "model.tflite")
            saved = [self._saved(partial, "model.keras")]
            if saved_model:
                saved.append(self._saved(partial, "saved_model"))
            moved = tuple(dataclasses.replace(s, file=partial / "stages" / s.file.name) for s in self.stages)
            written = dataclasses.replace(self, stages=moved, saved=tuple(saved))
            report = written.report_from(partial)
            report.save(partial / "report.json")
            (partial / "report.html").write_text(html(report), encoding="utf-8")
            (partial / "recipe.json").write_text(self.recipe.to_json(), encoding="utf-8")
        final = Path(folder)
        return dataclasses.replace(
            written,
            stages=tuple(dataclasses.replace(s, file=final / s.file.relative_to(partial)) for s in moved),
            saved=tuple(dataclasses.replace(s, file=final / s.file.relative_to(partial)) for s in saved),
        )

    def _saved(self, folder: Path, name: str) -> StageResult:
        started = time.monotonic()
        path = export(self.model, folder / name)
        return StageResult(name, path, measure(path, self.test), time.monotonic() - started, {})

    def report_from(self, folder: Path | None) -> Report:
        """The report, with file names relative to `folder` where they lie in it."""
        results = (*self.stages, *self.saved)
        names = [str(r.file.relative_to(folder) if folder else r.file) for r in results]
        inspections = {n: inspect(r.file) for n, r in zip(names, results, strict=True) if r.file.suffix == ".tflite"}
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
            inspections=inspections,
        )

    def __str__(self) -> str:
        return self.table


def new_scratch() -> tempfile.TemporaryDirectory:
    """A folder for the files of a run; it is removed with the result that holds it."""
    return tempfile.TemporaryDirectory(prefix="tfbig-result-", ignore_cleanup_errors=True)
