"""Files that a model needs beside its weights, carried inside its own file: labels, a vocabulary.

LiteRT's convention: the files are a zip archive behind the model's bytes, so that `unzip -p model.tflite labels.txt`
prints one of them, and `zipfile` reads them on a device without tfbig. They are stored, not deflated: LiteRT's task
library reads no others.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from tfbig.errors import InvalidArgument, InvalidFile

_PREFIX = {".tflite": "", ".keras": "assets.extra/"}  # The folder has TensorFlow's name for it.
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # The same files give the same bytes.


def check_associated_files(files: Mapping[str, str], path: Path | None = None) -> None:
    """Raises `InvalidArgument` unless `files` maps plain file names to text, and `path` is of a format that takes them.

    The format is that of the suffix; a folder is a SavedModel.
    """
    if not isinstance(files, Mapping):
        raise InvalidArgument(f"`associated_files` must map file names to text, received {type(files).__name__}.")
    for name, text in files.items():
        if not isinstance(name, str) or PurePosixPath(name).name != name or not isinstance(text, str):
            raise InvalidArgument(
                f"`associated_files` must map plain file names to text, such as {{'labels.txt': 'cat\\ndog\\n'}}, "
                f"received {name!r}: {type(text).__name__}."
            )
    if files and path is not None and not takes_associated_files(path):
        raise InvalidArgument(
            f"`associated_files` does not apply to '{path.name}'. It is for .tflite, .keras and SavedModel folders."
        )


def takes_associated_files(path: Path) -> bool:
    """Whether files of this suffix, or folders, carry others."""
    return not path.suffix or path.suffix in _PREFIX


def attach(path: Path, files: Mapping[str, str], suffix: str) -> None:
    """Adds `files` to the model file, or to the SavedModel folder, at `path`."""
    if path.is_dir():
        (path / "assets.extra").mkdir()
        for name, text in files.items():
            (path / "assets.extra" / name).write_text(text, encoding="utf-8")
        return
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(_PREFIX[suffix] + name, _LONG_AGO), text.encode())


def read_associated_files(path: str | os.PathLike) -> dict[str, str]:
    """The associated files of a `.tflite` or `.keras` file or a SavedModel folder: text by name, empty if it has none.

    Raises:
        InvalidFile: there is no such file.
    """
    path = Path(path)
    if not path.exists():
        raise InvalidFile(f"There is no model `{path}`. Check the path; it is relative to `{Path.cwd()}`.")
    if path.is_dir():
        return {file.name: file.read_text(encoding="utf-8") for file in sorted(path.glob("assets.extra/*"))}
    if not zipfile.is_zipfile(path):
        return {}
    prefix = _PREFIX.get(path.suffix, "")
    with zipfile.ZipFile(path) as archive:
        return {
            name.removeprefix(prefix): archive.read(name).decode()
            for name in archive.namelist()
            if name.startswith(prefix)
        }
