"""Every error a user can meet: the argument, what was expected, what was received, the next step."""

from __future__ import annotations

import difflib
import numbers
from collections.abc import Iterable


class TfbigError(Exception):
    """Base of all errors that tfbig raises on purpose; the command line prints them without a traceback."""


class InvalidArgument(TfbigError, ValueError):
    """An argument is outside its range, of the wrong kind, or names something unknown."""


class InvalidModel(TfbigError, ValueError):
    """The model cannot take what was asked of it."""


class InvalidFile(TfbigError, ValueError):
    """A file is missing, truncated, malformed, or not what its name says."""


class InvalidData(TfbigError, ValueError):
    """A data set is empty, malformed, or does not fit the model."""


class OutputExists(TfbigError, FileExistsError):
    """The output is there already, and nobody said that it may be replaced."""


class MissingPackage(TfbigError, ImportError):
    """An optional package is needed; the message holds the exact `pip install` line."""


class ConversionFailed(TfbigError, RuntimeError):
    """A converter or interpreter refused, crashed or hung in its child process."""


class InvariantBroken(TfbigError, RuntimeError):
    """A result lost what an earlier stage had established (zeros, clusters, widths, integer ops)."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns " Did you mean 'x'?" for the known name closest to `name`, or nothing."""
    by_lower = {k.lower(): k for k in known}
    close = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f" Did you mean '{by_lower[close[0]]}'?" if close else ""


def unknown(kind: str, name: object, known: Iterable[str]) -> InvalidArgument:
    """Builds the error for a name that is not in a registry."""
    known = sorted(known)
    return InvalidArgument(f"Unknown {kind} '{name}'. Known: {', '.join(known)}.{nearest(str(name), known)}")


def check_count(name: str, value: object, *, low: int = 1) -> int:
    """Returns `value` as a plain int, or raises `InvalidArgument` unless it is a whole number of at least `low`."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < low:
        raise InvalidArgument(f"`{name}` must be a whole number of at least {low}, received {value!r}.")
    return int(value)


def check_range(name: str, value: float, low: float, high: float, *, closed: str = "both") -> None:
    """Raises `InvalidArgument` unless `value` lies between `low` and `high`.

    Args:
        closed: which ends belong to the range: "both", "left", "right" or "neither".
    """
    left, right = closed in ("both", "left"), closed in ("both", "right")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    inside = number and (value >= low if left else value > low) and (value <= high if right else value < high)
    if not inside:
        span = f"{'[' if left else '('}{low:g}, {high:g}{']' if right else ')'}"
        raise InvalidArgument(f"`{name}` must be in {span}, received {value!r}.")
