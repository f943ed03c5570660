"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfbig.errors import InvalidFile, OutputExists


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, *, overwrite: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it becomes `path`, on any failure it is removed.

    The temporary name keeps the suffix, for writers that look at it. What is written may also be a folder.

    Raises:
        OutputExists: `path` is there already and `overwrite` is false.
    """
    target = Path(path)
    refuse_existing(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}-") as scratch:
        partial = Path(scratch) / target.name
        yield partial
        _put(partial, target)


@contextlib.contextmanager
def atomic_files(path: str | os.PathLike, *, overwrite: bool = True) -> Iterator[Path]:
    """The same for files that belong together: whatever is written into the temporary folder goes beside `path`.

    Raises:
        OutputExists: one of them is there already and `overwrite` is false.
    """
    target = Path(path)
    refuse_existing(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}-") as scratch:
        yield Path(scratch) / target.name
        made = sorted(Path(scratch).iterdir(), key=lambda file: file.name == target.name)
        for file in made:
            refuse_existing(target.with_name(file.name), overwrite)
        for file in made:  # What others belong to comes last: when it is there, all are.
            _put(file, target.with_name(file.name))


def check_writable(path: str | os.PathLike) -> None:
    """Makes the folder that `path` will be in, and raises `InvalidFile` unless something can be written there.

    For what comes at the end of long work, and would be lost with it.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=target.parent).close()
    except OSError as error:
        raise InvalidFile(f"`{target}` cannot be written: {error.strerror}. Choose another folder.") from error


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields a new temporary folder beside `path`; on success it becomes `path`, on any failure it is removed.

    Raises:
        OutputExists: `path` holds something already and `overwrite` is false.
    """
    target = Path(path)
    refuse_existing(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as scratch:
        partial = Path(scratch) / target.name
        partial.mkdir()
        yield partial
        _swap_folder(partial, target)


@contextlib.contextmanager
def set_aside(path: str | os.PathLike, *, wanted: bool) -> Iterator[None]:
    """Keeps what the folder `path` holds beside it, as `NAME.before`, until the block has succeeded.

    If the block fails before it has written anything, the folder is back in its place.

    Raises:
        OutputExists: `NAME.before` is there already, or `path` is the current folder.
    """
    target = Path(path)
    if not wanted or not target.exists():
        yield
        return
    refuse_existing(target, overwrite=True)
    before = target.with_name(f"{target.name}.before")
    refuse_existing(before, overwrite=False)
    os.replace(target, before)
    try:
        yield
    finally:
        if not target.exists():
            os.replace(before, target)
    shutil.rmtree(before) if before.is_dir() else before.unlink(missing_ok=True)


def refuse_existing(path: str | os.PathLike, overwrite: bool) -> None:
    """Raises `OutputExists` if `path` is a file or a folder that is not empty, unless `overwrite`.

    A folder that the program is working in is not replaced even then.
    """
    target = Path(path)
    if target.is_dir() and Path.cwd().is_relative_to(target.resolve()):
        raise OutputExists(
            f"`{target}` is the current folder or holds it, and is not replaced. Name a folder of its own."
        )
    occupied = target.exists() and not (target.is_dir() and not any(target.iterdir()))
    if occupied and not overwrite:
        raise OutputExists(
            f"`{target}` exists already. Choose another output, or replace it with overwrite=True (--overwrite)."
        )


def _put(new: Path, target: Path) -> None:
    if new.is_dir():
        _swap_folder(new, target)
    else:
        os.replace(new, target)


def _swap_folder(new: Path, target: Path) -> None:
    old = new.parent / "replaced"
    try:
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    except BaseException:  # Whatever stops us between the two, what was there before must be there again.
        if old.exists() and not target.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)


@contextlib.contextmanager
def full_disk_as_os_error() -> Iterator[None]:
    """Makes of what TensorFlow raises on a full disk, in errors of several kinds, what Python raises there."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            if os.strerror(code) in error.message:
                raise OSError(code, os.strerror(code)) from error
        raise
