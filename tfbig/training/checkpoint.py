"""A folder of checkpoints from which training goes on as if it had never stopped."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from tfbig.errors import InvalidArgument, InvalidFile, TfbigError, check_count
from tfbig.files import atomic_file
from tfbig.training.state import Position

_NAME = re.compile(r"epoch(\d+)-batch(\d+)\.npz")


class CheckpointFailed(TfbigError, OSError):
    """A checkpoint could not be written; the earlier ones are as they were."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What one file holds.

    Attributes:
        position: batches that were done.
        arrays: the variables, as `tfbig.training.state.capture` gives them.
        history: the logs of all finished epochs.
        memories: what the callbacks remember.
        stopped: whether a callback had ended the training.
    """

    position: Position
    arrays: dict[str, np.ndarray]
    history: dict[str, list[float]]
    memories: list[dict[str, Any]]
    stopped: bool = False


class CheckpointFolder:
    """Writes checkpoints whole or not at all, keeps the last ones, and finds the newest that is good.

    Args:
        path: folder, made when the first checkpoint is written.
        keep: checkpoints to keep, >= 1.

    Raises:
        InvalidArgument: `path` is a file, or `keep` is no whole number of at least 1.
    """

    def __init__(self, path: str | os.PathLike, keep: int = 3):
        check_count("keep", keep)
        self.path, self.keep = Path(path), keep
        if self.path.is_file():
            raise InvalidArgument(f"`checkpoint` must be a folder, but `{self.path}` is a file.")

    def write(self, checkpoint: Checkpoint) -> Path:
        """Writes one checkpoint and removes those that are too many.

        Raises:
            CheckpointFailed: no space, no permission; nothing half-written stays.
        """
        place = checkpoint.position
        target = self.path / f"epoch{place.epoch:06d}-batch{place.batch:09d}.npz"
        memories = [_plain(memory) for memory in checkpoint.memories]
        notes = {"history": checkpoint.history, "memories": memories, "stopped": checkpoint.stopped}
        arrays = {**_best_weights(checkpoint.memories), **checkpoint.arrays}
        types = {name: str(array.dtype) for name, array in arrays.items() if array.dtype.kind == "V"}
        packed = {name: array.view(f"u{array.itemsize}") if name in types else array for name, array in arrays.items()}
        text = np.frombuffer(json.dumps({**notes, "types": types}).encode(), np.uint8)
        try:
            with atomic_file(target) as partial:
                np.savez(partial, **{"notes.json": text}, **packed)  # type: ignore[arg-type]
        except OSError as error:
            raise CheckpointFailed(
                f"The checkpoint `{target}` could not be written: {error.strerror or error}. Earlier "
                "checkpoints are "
                "whole; make space or name another folder, and start again to go on from the last one."
            ) from error
        for old in self.files()[: -self.keep]:
            old.unlink(missing_ok=True)
        for half in self.path.glob(".epoch*-batch*-*"):  # A process that was killed while it wrote left it.
            shutil.rmtree(half)
        return target

    def files(self) -> list[Path]:
        """The checkpoints, oldest first."""
        if not self.path.is_dir():
            return []
        return sorted(file for file in self.path.iterdir() if _NAME.fullmatch(file.name))

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that can be read, or None; a damaged one is passed over with a warning.

        Raises:
            InvalidFile: there are checkpoints, and none can be read.
        """
        files = self.files()
        for file in reversed(files):
            try:
                return _read(file)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
                warnings.warn(f"The checkpoint `{file}` is damaged and was passed over: {error}", stacklevel=2)
        if files:
            raise InvalidFile(
                f"None of the {len(files)} checkpoints in `{self.path}` can be read. Name another folder."
            )
        return None


def _read(file: Path) -> Checkpoint:
    with open(file, "rb") as content, np.load(content, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    notes = json.loads(arrays.pop("notes.json").tobytes())
    for name, kind in notes["types"].items():
        arrays[name] = arrays[name].view(_dtype(kind))
    memories = notes["memories"]
    for name in [name for name in arrays if name.startswith("best/")]:
        _, callback, index = name.split("/")
        memories[int(callback)].setdefault("best_weights", []).append((int(index), arrays.pop(name)))
    for memory in memories:
        if "best_weights" in memory:
            memory["best_weights"] = [array for _, array in sorted(memory["best_weights"], key=lambda pair: pair[0])]
    found = _NAME.fullmatch(file.name)
    assert found is not None
    position = Position(int(found[1]), int(found[2]))
    return Checkpoint(position, arrays, notes["history"], memories, notes["stopped"])


def _best_weights(memories: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    found = {}
    for callback, memory in enumerate(memories):
        for index, array in enumerate(memory.get("best_weights") or []):
            found[f"best/{callback}/{index}"] = np.asarray(array)
    return found


def _plain(memory: dict[str, Any]) -> dict[str, Any]:
    scalars = {name: value for name, value in memory.items() if name != "best_weights"}
    return {name: float(v) if isinstance(v, np.generic) else v for name, v in scalars.items()}


def _dtype(name: str) -> np.dtype:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name))
