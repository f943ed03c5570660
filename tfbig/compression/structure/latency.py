"""How many multiplications have to go for a goal of latency: found by timing the files of smaller models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Generic, TypeVar

from tfbig.compression.structure.allocation import CLOSE
from tfbig.errors import unknown
from tfbig.registry import Registry

# Writing and timing files is for later stages, which this one must not import: each has `shares(model)`.
stopwatches = Registry("tfbig.measurement.stopwatches", "value of `latency_of`:")
_TRIALS = 6
Subject = TypeVar("Subject")


def check_latency_of(name: str) -> None:
    """Raises `InvalidArgument` unless there is a stopwatch of this name."""
    if name not in stopwatches:
        raise unknown("value of `latency_of`:", name, stopwatches.names())


@dataclasses.dataclass(frozen=True)
class Timed(Generic[Subject]):
    """What was timed, with its shares of the original's multiplications and latency."""

    subject: Subject
    flops: float
    latency: float


def slowest_within(goal: float, timed: Callable[[float], Timed[Subject]]) -> Timed[Subject]:
    """The trial with the most multiplications whose latency is at most `goal`.

    Latency is taken as proportional to the multiplications around the last trial; where that leads out of what is left
    between too slow and fast enough, the middle is tried.

    Args:
        timed: makes and times the model that keeps a share of the multiplications, or more where that share cannot be
            reached.

    Returns:
        That trial; if there is none, the fastest one, whose latency is above the goal.
    """
    low, high, flops = 0.0, 1.0, goal
    tried: list[Timed[Subject]] = []
    for _ in range(_TRIALS):
        found = timed(flops)
        tried.append(found)
        smallest_is_too_slow = found.latency > goal and found.flops > flops
        if CLOSE * goal <= found.latency <= goal or smallest_is_too_slow:
            break
        low, high = (flops, high) if found.latency <= goal else (low, flops)
        flops *= goal / found.latency
        if not low < flops < high:
            flops = (low + high) / 2
    within = [one for one in tried if one.latency <= goal]
    return max(within, key=lambda one: one.flops) if within else min(tried, key=lambda one: one.latency)
