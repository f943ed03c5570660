"""`npz:PATH`: a NumPy archive of `x_train`, `y_train`, `x_test`, `y_test` (and `x_validation`, ...)."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tfbig.data.arrays import from_arrays
from tfbig.data.dataset import Data, LoadOptions
from tfbig.errors import InvalidData, InvalidFile

ARGUMENT = "PATH"
REQUIRED = ("x_train", "y_train", "x_test", "y_test")
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)  # of readers
OPTIONAL = ("x_validation", "y_validation")


def recognises(path: str) -> bool:
    return path.endswith(".npz")


def load(argument: str, options: LoadOptions) -> Data:
    """Loads the arrays as they are: nothing is scaled, floats and bytes become float32.

    Raises:
        InvalidFile: missing, truncated, not an archive, or holding pickled objects, which are never
            unpickled.
        InvalidData: arrays missing, or not fit to train on.
    """
    arrays = _read(Path(argument))
    pairs = {
        name: (arrays[f"x_{name}"], arrays[f"y_{name}"])
        for name in ("train", "validation", "test")
        if f"x_{name}" in arrays
    }
    return from_arrays(pairs, options)


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise InvalidFile(f"There is no file `{path}`. Check the path; it is relative to `{Path.cwd()}`.")
    if not zipfile.is_zipfile(path):
        raise InvalidFile(f"`{path}` is not a whole .npz archive. Copy it again, or save it with numpy.savez.")
    with path.open("rb") as file, _open(path, file) as archive:
        return {key: _array(path, archive, key) for key in _checked_keys(path, archive.files)}


def _open(path: Path, file: BinaryIO) -> np.lib.npyio.NpzFile:
    try:
        return np.load(file, allow_pickle=False)
    except DAMAGE as error:
        raise InvalidFile(f"`{path}` is damaged: {error}. Copy it again, or save it anew.") from error


def _checked_keys(path: Path, keys: list[str]) -> list[str]:
    wanted = REQUIRED + OPTIONAL if set(OPTIONAL) & set(keys) else REQUIRED
    if missing := [key for key in wanted if key not in keys]:
        raise InvalidData(
            f"`{path}` must have the arrays {', '.join(wanted)}; {', '.join(missing)} missing, "
            f"received {', '.join(keys) or 'none'}. Save it with numpy.savez(path, x_train=..., ...)."
        )
    return list(wanted)


def _array(path: Path, archive: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    try:
        return archive[key]
    except DAMAGE as error:
        if "pickle" in str(error):
            raise InvalidFile(
                f"Array `{key}` of `{path}` holds pickled Python objects, which could run code when read. "
                "Save plain arrays of numbers or strings."
            ) from error
        raise InvalidFile(
            f"Array `{key}` of `{path}` is damaged: {error}. Copy the file again, or save it anew."
        ) from error
