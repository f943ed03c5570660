"""What a person sees: our words and the progress bar, not the chatter of the libraries below."""

from __future__ import annotations

import contextlib
import json as json_format
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


@contextlib.contextmanager
def only_our_words(*, json: bool) -> Iterator[None]:
    """Keeps the messages and warnings of third parties off the terminal, and all but JSON off standard output.

    Args:
        json: what is printed meanwhile, such as the progress of a download, goes to standard error.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for library in ("tensorflow", "absl"):
        logging.getLogger(library).setLevel(logging.ERROR)
    with _native_stderr_aside(), _our_warnings():
        with contextlib.redirect_stdout(sys.stderr if json else _ToTheEnd(sys.stdout)):  # type: ignore[type-var]
            yield


class _ToTheEnd:
    """Standard output that lets the work go on when its reader, such as `head`, has seen enough."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        with self._going_on():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._going_on():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())


@contextlib.contextmanager
def _native_stderr_aside() -> Iterator[None]:
    """Python writes to standard error; what C and C++ libraries write there, past Python, goes nowhere.

    No setting silences TensorFlow's first lines, nor libjpeg's.
    """
    sys.stderr.flush()
    python, saved = sys.stderr, os.dup(2)
    with tempfile.TemporaryFile() as nowhere, open(saved, "w", buffering=1, encoding="utf-8") as terminal:
        os.dup2(nowhere.fileno(), 2)
        sys.stderr = terminal
        try:
            yield
        finally:
            sys.stderr = python
            os.dup2(saved, 2)


@contextlib.contextmanager
def _our_warnings() -> Iterator[None]:
    def show(message: Warning | str, *place: Any, **more: Any) -> None:
        print(f"tfbig: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"tfbig\.")
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def verbosity(arguments: Any) -> int:
    """Keras's `verbose`: a bar on a terminal, a line per epoch in a pipe, nothing under --quiet and --json."""
    if arguments.quiet or arguments.json:
        return 0
    return 1 if sys.stdout.isatty() else 2


def show_result(folder: Path, arguments: Any) -> dict[str, Any]:
    """Prints the table of a saved result unless JSON was asked for, and returns what JSON shows: its report.json."""
    from tfbig.report.report import Report
    from tfbig.report.table import print_report

    report = Report.load(folder / "report.json")
    if not arguments.json:
        print()
        print_report(report)
        print(f"\nThe files and report.html are in {folder}")
    return report.to_dict()


def print_json(value: Any) -> None:
    """Prints plain values as JSON."""
    print(json_format.dumps(value, indent=1, default=str))
