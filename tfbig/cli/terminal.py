"""What a person sees: our words and the progress bar, not the chatter of the libraries below."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def quiet_third_parties() -> Iterator[None]:
    """Keeps TensorFlow's start-up messages and third-party warnings off the terminal."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"tfbig\\..*")
        yield


def import_tensorflow() -> None:
    """Imports TensorFlow with its C++ log, which no setting silences, turned away for the moment."""
    sys.stderr.flush()
    saved = os.dup(2)
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            import tensorflow

            tensorflow.get_logger().setLevel("ERROR")
    finally:
        os.dup2(saved, 2)
        os.close(saved)


def verbosity(arguments: Any) -> int:
    """Keras's `verbose`: a bar on a terminal, a line per epoch in a pipe, nothing under --quiet and --json."""
    if getattr(arguments, "quiet", False) or getattr(arguments, "json", False):
        return 0
    return 1 if sys.stdout.isatty() else 2


def print_json(value: Any) -> None:
    """Prints a value, or a dataclass's `to_dict`, as JSON."""
    print(json.dumps(value, indent=1, default=str))
