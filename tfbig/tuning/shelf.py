"""The finished stages of all trials, by what led to them: two trials that begin alike train their beginning once."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import keras

from tfbig.compression.recipe import Recipe
from tfbig.measurement.measure import Measurement
from tfbig.pipeline.result import StageResult
from tfbig.pipeline.work import Work
from tfbig.tuning.budget import Figures
from tfbig.tuning.rehearsal import macs_of
from tfbig.tuning.space import digest, told


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A measured file and how it came about; usable as a path.

    Args:
        recipe: what leads to it; None for the original model.
        epochs: of every stage.
        measurement: on the validation split.
        macs: multiply-accumulates of one sample, None where they are not known.
    """

    file: Path
    recipe: Recipe | None
    epochs: int
    measurement: Measurement
    macs: int | None = None

    def __fspath__(self) -> str:
        return str(self.file)

    @property
    def name(self) -> str:
        """The recipe in a line; "float" for the original model."""
        return told(self.recipe) if self.recipe else "float"

    @property
    def figures(self) -> Figures:
        """What a budget speaks of."""
        return Figures.of(self.measurement, self.macs)


class Shelf:
    """A folder of finished stages.

    Args:
        seed: of the search; a stage of another seed is another stage.
    """

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = folder, seed
        folder.mkdir(parents=True, exist_ok=True)

    def work(self, recipe: Recipe | None, epochs: int) -> StagesOf:
        """What `tfbig.pipeline` needs to run a recipe whose stages come from, and go to, the shelf."""
        return StagesOf(self, recipe, epochs)

    def candidates(self) -> list[Candidate]:
        """Every finished stage is a measured file."""
        return [self.candidate(path) for path in sorted(self.folder.glob("*.json"))]

    def named(self, name: str) -> Candidate:
        """The candidate of a stage's name on the shelf."""
        return self.candidate(self.folder / f"{name}.json")

    def candidate(self, path: Path) -> Candidate:
        """The candidate of one stage's figures."""
        figures = json.loads(path.read_text(encoding="utf-8"))
        file = path.with_suffix(".tflite")
        recipe = Recipe.from_config(figures["recipe"]) if figures["recipe"] else None
        measurement = Measurement(**{**figures["measurement"], "file": str(file)})
        return Candidate(file, recipe, figures["epochs"], measurement, figures["macs"])


class StagesOf(Work):
    """The stages of one recipe on the shelf; files are written beside them first."""

    def __init__(self, shelf: Shelf, recipe: Recipe | None, epochs: int):
        super().__init__(None, {}, resume=False)
        self.directory, self.shelf, self.recipe, self.epochs = shelf.folder, shelf, recipe, epochs

    @property
    def answers(self) -> Path:
        """Not on the shelf, where several trials would write at a time."""
        return self.scratch / "answers"

    def place(self, stage: str) -> Path:
        """Named by all that the stage depends on."""
        number = self._number(stage)
        if not number or self.recipe is None:
            return self.shelf.folder / "float"
        stages = self.recipe.get_config()["stages"][:number]
        return self.shelf.folder / digest(stages, self.epochs, self.shelf.seed)

    def figures(self, stage: StageResult, model: keras.Model) -> dict[str, Any]:
        """What the shelf holds of a stage: also the recipe that led to it."""
        number = self._number(stage.name)
        recipe = Recipe(self.recipe.stages[:number], "found") if number and self.recipe else None
        own = {"recipe": recipe and recipe.get_config(), "epochs": self.epochs, "macs": macs_of(model)}
        return {**super().figures(stage, model), **own}

    def candidate(self, stage: str) -> Candidate:
        """A finished stage as a candidate."""
        return self.shelf.candidate(Path(f"{self.place(stage)}.json"))

    def forget(self) -> None:
        """Keeps everything: other trials begin alike."""
        shutil.rmtree(self.scratch, ignore_errors=True)

    @staticmethod
    def _number(stage: str) -> int:
        """Stages are called "2 quantize int8", the original model "float"."""
        return 0 if stage == "float" else int(stage.split()[0])
