"""Methods of single objects in place of those of their classes, for a while."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def overridden(objects: Iterable[Any], method: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """While open, `method` of each object is `replacement`, called with the object first.

    Objects that have a method of their own already keep it.
    """
    changed = []
    for one in objects:
        if method not in one.__dict__:
            one.__dict__[method] = functools.partial(replacement, one)
            changed.append(one)
    try:
        yield
    finally:
        for one in changed:
            del one.__dict__[method]
