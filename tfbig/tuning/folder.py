"""The folder of a search: what it was asked for, so that nobody goes on with another search by mistake."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfbig.errors import InvalidArgument, InvalidFile
from tfbig.files import atomic_file
from tfbig.tuning.workers import ALONE, WORKER, role, wait_for

_IDENTITY = "search.json"
_SHOWN = 60  # letters


class Folder:
    """A folder that is kept, or a temporary one that goes with this object.

    Args:
        path: None for a temporary folder.
        identity: what makes two searches the same one; JSON values.

    Raises:
        InvalidFile: `path` holds something else, or a search with another identity.
        InvalidArgument: no `path` where several processes search together.
    """

    def __init__(self, path: str | os.PathLike | None, identity: Mapping[str, Any]):
        if path is None and role() != ALONE:
            raise InvalidArgument(
                "`directory` must be a folder that all workers share, received None. Give the same one to each."
            )
        self.path = Path(path) if path is not None else Path(tempfile.mkdtemp(prefix="tfbig-search-"))
        if path is None:
            weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)
        here = json.loads(json.dumps(identity, default=str))
        if self.path.is_file():
            raise InvalidFile(f"`directory` '{self.path}' is a file, expected a folder. Choose another.")
        if role() == WORKER:
            wait_for(self.path / _IDENTITY)
        self.resumed = self.path.exists() and any(self.path.iterdir())
        if self.resumed:
            _check(self.path, here)
        else:
            self.path.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path / _IDENTITY) as partial:
                partial.write_text(json.dumps(here, indent=1), encoding="utf-8")


def is_search(path: Path) -> bool:
    """Whether a folder is that of a search, whose page shows more than its report holds."""
    return (path / _IDENTITY).is_file()


def _check(path: Path, here: dict[str, Any]) -> None:
    try:
        there = json.loads((path / _IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidFile(
            f"`directory` '{path}' is not the folder of a search: {error}. Choose another, or delete it."
        ) from error
    for name, value in here.items():
        if there.get(name) != value:
            raise InvalidFile(
                f"`directory` '{path}' holds a search with another {name}{_shown(there.get(name), value)}. Give the "
                f"same {name} to go on with it, choose another folder, or delete this one to start again."
            )


def _shown(there: Any, here: Any) -> str:
    texts = [json.dumps(value) for value in (there, here)]
    opaque = any(len(text) > _SHOWN for text in texts)
    return "" if opaque else f" ({texts[0]} there, {texts[1]} here)"
