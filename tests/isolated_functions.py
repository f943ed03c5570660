"""What the tests of `tfbig.isolation` run in a child process."""

from __future__ import annotations

import os
import signal
import sys
import time

from tfbig.errors import InvalidFile


def add(a: int, *, b: int) -> tuple[int, int]:
    print("this must not reach the terminal")
    print("nor this", file=sys.stderr)
    return a + b, os.getpid()


def refuse() -> None:
    raise InvalidFile("`x.tflite` is not a LiteRT file.")


def fail() -> None:
    raise ZeroDivisionError("one divided by zero")


def crash() -> None:
    print("CHECK failed: the converter is unhappy", flush=True)
    os.kill(os.getpid(), signal.SIGSEGV)


def leave() -> None:
    os._exit(7)


def hang() -> None:
    time.sleep(60)


def size(data: bytes) -> tuple[int, bytes]:
    return len(data), data


def unpicklable() -> object:
    return lambda: None


def imported() -> list[str]:
    return [name for name in ("tensorflow", "keras") if name in sys.modules]


def module_path(name: str) -> str:
    return str(sys.modules[name].__file__ if name in sys.modules else __import__(name).__file__)
