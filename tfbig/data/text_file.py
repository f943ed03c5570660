"""Reads text files, with an error that says where another encoding begins."""

from __future__ import annotations

from pathlib import Path

from tfbig.errors import InvalidFile


def read_text(path: Path) -> str:
    """Returns the content of a UTF-8 file, without its byte-order mark and with its line ends as they are.

    Raises:
        InvalidFile: there is no such file, or it is not UTF-8.
    """
    if not path.is_file():
        raise InvalidFile(f"There is no file `{path}`. Check the path; it is relative to `{Path.cwd()}`.")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidFile(
            f"`{path}` must be UTF-8 text, received byte 0x{content[error.start]:02x} in line {line}. "
            f"Convert it, e.g. iconv -f {_likely(content)} -t UTF-8."
        ) from error


def _likely(content: bytes) -> str:
    return "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "LATIN1"
