"""What a search gives back: the front of measured files, the best one, and all that was tried."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfbig.compression.recipe import Recipe
from tfbig.errors import TfbigError
from tfbig.files import atomic_folder, refuse_existing
from tfbig.measurement.measure import Measurement
from tfbig.report.report import Report
from tfbig.tuning.log import Trial
from tfbig.tuning.screen import Verdict
from tfbig.tuning.shelf import Candidate

_LETTERS = 32  # of a recipe in a file's name


class BudgetNotMet(TfbigError, RuntimeError):
    """No file is within the budget; `result` holds those that were found, or is None if nothing was trained."""

    def __init__(self, message: str, result: SearchResult | None = None):
        super().__init__(message)
        self.result = result


class NoTrialCompleted(TfbigError, RuntimeError):
    """Every trial failed; the message has the reasons."""


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """The outcome of a search.

    Args:
        folder: where everything is: `files/` (the front), `best/`, `report.html`, `report.json`.
        front: the files that no other one beats, the smallest first.
        best: the one of them that the objective likes most.
        report: figures of the front on the test split, which the search itself never saw.
        trials: all that were trained.
        dropped: plans that were given up before any training, and why.
        keep_alive: holds a temporary folder as long as this object lives.
    """

    folder: Path
    front: tuple[Candidate, ...]
    best: Candidate
    report: Report
    trials: tuple[Trial, ...]
    dropped: tuple[Verdict, ...]
    sensitivity: dict[str, float]
    keep_alive: Any = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def files(self) -> list[Path]:
        """The LiteRT files of the front, the smallest first."""
        return [candidate.file for candidate in self.front]

    @property
    def recipe(self) -> Recipe | None:
        """What makes the best file; None if that is the original model."""
        return self.best.recipe

    @property
    def table(self) -> str:
        """The front beside the original model, as text."""
        return str(self.report)

    def save(self, folder: str | os.PathLike, *, overwrite: bool = False) -> SearchResult:
        """Copies the files, the best model and its recipe, and the reports into `folder`.

        Raises:
            OutputExists: `folder` holds something and `overwrite` is false.
        """
        refuse_existing(folder, overwrite)
        target = Path(folder)
        with atomic_folder(target, overwrite=overwrite) as partial:
            for name in ("files", "best"):
                shutil.copytree(self.folder / name, partial / name)
            for name in ("report.html", "report.json"):
                shutil.copyfile(self.folder / name, partial / name)
        front = tuple(dataclasses.replace(c, file=target / "files" / c.file.name) for c in self.front)
        best = next(new for new, old in zip(front, self.front, strict=True) if old == self.best)
        return dataclasses.replace(self, folder=target, front=front, best=best)

    def __str__(self) -> str:
        return self.table


def places(front: Sequence[Candidate], best: Candidate, folder: Path) -> tuple[list[Candidate], Candidate]:
    """The candidates where they lie in the folder of a search that is done."""
    moved = [
        _at(candidate, folder / "files" / f"{number}-{_slug(candidate.name)}.tflite")
        for number, candidate in enumerate(front, start=1)
    ]
    return moved, next(new for new, old in zip(moved, front, strict=True) if old is best)


def put_in_place(
    front: Sequence[Candidate], best: Candidate, folder: Path, note: str
) -> tuple[list[Candidate], Candidate]:
    """Writes `files/` and `best/` and returns the candidates where they lie now."""
    moved, placed = places(front, best, folder)
    with atomic_folder(folder / "files", overwrite=True) as partial:
        for new, candidate in zip(moved, front, strict=True):
            shutil.copyfile(candidate.file, partial / new.file.name)
    with atomic_folder(folder / "best", overwrite=True) as partial:
        shutil.copyfile(best.file, partial / "model.tflite")
        shutil.copyfile(best.file.with_suffix(".keras"), partial / "model.keras")
        if best.recipe is not None:
            recipe = Recipe(best.recipe.stages, "found", note)
            (partial / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    return moved, placed


def _at(candidate: Candidate, file: Path) -> Candidate:
    measurement: Measurement = dataclasses.replace(candidate.measurement, file=str(file))
    return dataclasses.replace(candidate, file=file, measurement=measurement)


def _slug(name: str) -> str:
    return re.sub(r"[^\w.]+", "-", name.replace("+", "and"))[:_LETTERS].strip("-")
