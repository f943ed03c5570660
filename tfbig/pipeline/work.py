"""The files of a run while it goes on, and, on request, a folder from which a run that was stopped goes on."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from tfbig.compression.native.clone import custom_objects_of
from tfbig.errors import InvalidFile, OutputExists
from tfbig.exporters.export import export
from tfbig.files import atomic_file
from tfbig.measurement.measure import Measurement
from tfbig.models.load import load
from tfbig.pipeline.result import StageResult

_RUN = "run.json"


class Work:
    """The stages' files, in a temporary folder that goes with the result that holds this object.

    Args:
        directory: keeps every finished stage too: its LiteRT file, its model, and, written last, its figures. None: a
            run that is stopped is lost.
        identity: what the run is; plain JSON values. A directory of another run is refused.
        resume: go on from what `directory` holds.

    Raises:
        OutputExists: `directory` holds something, and `resume` is false.
        InvalidFile: `directory` is of another run, or is none of a run.
    """

    def __init__(self, directory: str | os.PathLike | None, identity: dict[str, Any], *, resume: bool):
        self.scratch = Path(tempfile.mkdtemp(prefix="tfbig-result-"))
        weakref.finalize(self, shutil.rmtree, self.scratch, ignore_errors=True)
        self.directory = None if directory is None else Path(directory)
        if self.directory is not None:
            _open(self.directory, json.loads(json.dumps(identity, default=str)), resume)

    def file(self, stage: str) -> Path:
        """Where the LiteRT file of a stage belongs."""
        return self.scratch / f"{_file_name(stage)}.tflite"

    @property
    def answers(self) -> Path:
        """Where what teachers say is kept."""
        return (self.directory or self.scratch) / "answers"

    def place(self, stage: str) -> Path:
        """What the files of a finished stage are called in the directory, without their suffixes."""
        return self.directory / _file_name(stage)  # type: ignore[operator]

    def keep(self, stage: StageResult, model: keras.Model) -> None:
        """Notes that a stage is finished."""
        if self.directory is None:
            return
        place = self.place(stage.name)
        export(model, f"{place}.keras")
        with atomic_file(f"{place}.tflite") as partial:
            shutil.copyfile(stage.file, partial)
        with atomic_file(f"{place}.json") as partial:
            partial.write_text(json.dumps(self.figures(stage, model)), encoding="utf-8")

    def figures(self, stage: StageResult, model: keras.Model) -> dict[str, Any]:
        """What the directory holds of a stage besides its files."""
        return {name: value for name, value in dataclasses.asdict(stage).items() if name != "file"}

    def finished(self, names: Sequence[str]) -> list[StageResult]:
        """The first of the named stages, as far as they are finished."""
        stages: list[StageResult] = []
        for name in names if self.directory is not None else ():
            place = self.place(name)
            if not Path(f"{place}.json").exists():
                break
            figures = json.loads(Path(f"{place}.json").read_text(encoding="utf-8"))
            file = shutil.copyfile(f"{place}.tflite", self.file(name))
            measurement = Measurement(**{**figures["measurement"], "file": str(file)})
            stages.append(StageResult(name, file, measurement, figures["seconds"], figures["history"]))
        return stages

    def model(self, stage: StageResult, original: keras.Model) -> keras.Model:
        """The model after a finished stage."""
        # Code comes out of this file only if the user has brought it into this run before.
        has_code = any(isinstance(layer, keras.layers.Lambda) for layer in original._flatten_layers())
        return load(f"{self.place(stage.name)}.keras", unsafe=has_code, custom_objects=custom_objects_of(original))

    def forget(self) -> None:
        """Removes the directory; the files of the result stay where they are."""
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)


def fingerprint(model: keras.Model) -> str:
    """A digest of the class and the weights of a model."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for variable in model.weights:
        value = keras.ops.convert_to_numpy(variable)
        digest.update(f"{value.shape}{value.dtype}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _open(directory: Path, identity: dict[str, Any], resume: bool) -> None:
    if directory.exists() and any(directory.iterdir()):
        if not resume:
            raise OutputExists(
                f"`{directory}` holds a run that was stopped. Go on with it by resume=True (--resume), or delete it."
            )
        _check_same(directory, identity)
        return
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_file(directory / _RUN) as partial:
        partial.write_text(json.dumps(identity, indent=1), encoding="utf-8")


def _check_same(directory: Path, identity: dict[str, Any]) -> None:
    try:
        there = json.loads((directory / _RUN).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidFile(
            f"`{directory}` is not the folder of a run: {error}. Choose another, or delete it."
        ) from error
    for name, here in identity.items():
        if there.get(name) != here:
            short = f" ({there.get(name)} there, {here} here)" if isinstance(here, int | float) else ""
            raise InvalidFile(
                f"`{directory}` holds a run with another {name}{short}. Give the same {name} to go on, choose another "
                "folder, or delete this one to start again."
            )


def _file_name(stage: str) -> str:
    return re.sub(r"[^\w.-]+", "-", stage.replace("+", "and"))
