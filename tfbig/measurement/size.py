"""What a file or a folder weighs, raw and gzipped."""

from __future__ import annotations

import io
import tarfile
import zlib
from pathlib import Path
from typing import Any


def raw_bytes(path: Path) -> int:
    """The size of a file, or of all files in a folder together."""
    return sum(file.stat().st_size for file in _files(path))


def gzip_bytes(path: Path) -> int:
    """The size after `gzip -9`; a folder becomes a tar without times and owners, so that it repeats."""
    counter = _GzipCounter()
    if path.is_dir():
        with tarfile.open(fileobj=counter, mode="w|") as archive:
            for file in _files(path):
                archive.add(file, file.relative_to(path).as_posix(), filter=_anonymous)
    else:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                counter.write(block)
    return counter.finish()


class _GzipCounter(io.RawIOBase):
    """A write-only file that keeps nothing but the compressed length."""

    def __init__(self) -> None:
        super().__init__()
        self._gzip = zlib.compressobj(9, wbits=31)
        self._bytes = 0

    def write(self, block: Any) -> int:
        self._bytes += len(self._gzip.compress(block))
        return len(block)

    def finish(self) -> int:
        return self._bytes + len(self._gzip.flush())


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o644
    return member
