"""A LiteRT file that was written as a C array; it is measured as the file that it holds."""

from __future__ import annotations

import re
import tempfile
import weakref
from pathlib import Path

from tfbig.errors import InvalidFile
from tfbig.measurement.subject import Subject
from tfbig.measurement.subjects.litert import LiteRT

suffixes = (".cc", ".c")
_ARRAY = re.compile(r"unsigned char \w+\[\] = \{([^}]*)\}")


def open_file(path: Path) -> Subject:
    """The LiteRT file in the array; its bytes are those that the device's memory holds."""
    content = array_of(path)
    folder = tempfile.TemporaryDirectory(prefix="tfbig-")
    file = Path(folder.name) / f"{path.stem}.tflite"
    file.write_bytes(content)
    try:
        subject = LiteRT(file)
    except BaseException:
        folder.cleanup()
        raise
    weakref.finalize(subject, folder.cleanup)
    return subject


def array_of(path: Path) -> bytes:
    """The bytes of the array.

    Raises:
        InvalidFile: there is no such file, or no array of bytes in it.
    """
    if not path.is_file():
        raise InvalidFile(f"No file `{path}`. Check the path, or write it with tfbig.export(model, {path.name!r}).")
    found = _ARRAY.search(path.read_text(encoding="utf-8", errors="replace"))
    values = [value for value in re.split(r"[,\s]+", found[1]) if value] if found else []
    try:
        return bytes(int(value, 0) for value in values) if values else _refuse(path)
    except ValueError:
        return _refuse(path)


def _refuse(path: Path) -> bytes:
    raise InvalidFile(f"`{path}` holds no array of bytes as tfbig.export writes it. Export it again.")
