"""`compare`: which of two LiteRT files is faster, and how sure that is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np

from tfbig.errors import check_count
from tfbig.measurement.litert import in_child


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Paired latencies of two files; `speedup` 2 means that the second takes half the time of the first."""

    file_a: str
    file_b: str
    latency_a_ms: float  # median over the rounds
    latency_b_ms: float
    speedup: float  # median over the rounds of a / b
    speedup_low: float  # 5th percentile
    speedup_high: float  # 95th percentile
    threads: int
    rounds: int

    def __str__(self) -> str:
        return (
            f"{self.file_b} takes {self.latency_b_ms:.3f} ms, {self.file_a} {self.latency_a_ms:.3f} ms: "
            f"{self.speedup:.2f}x as fast (90 % of {self.rounds} rounds: {self.speedup_low:.2f} to "
            f"{self.speedup_high:.2f}; {self.threads} thread{'s' if self.threads > 1 else ''})"
        )


def compare(
    path_a: str | os.PathLike,
    path_b: str | os.PathLike,
    inputs: Sequence[np.ndarray] | Mapping[str, np.ndarray] | None = None,
    *,
    threads: int = 1,
    rounds: int = 50,
) -> Comparison:
    """Times two LiteRT files in turns, in one process, so that what slows the machine slows both.

    In each round either file runs for 2 ms or more (one invocation at least), and the files take turns in
    beginning.

    Args:
        inputs: one array per input of both files, of which the first sample is used; random numbers by
            default.
        threads: of each interpreter.
        rounds: pairs of timings.

    Raises:
        The same as `tfbig.measurement.litert.run_litert`.
    """
    check_count("threads", threads)
    check_count("rounds", rounds)
    other = os.path.abspath(path_b)
    pairs = np.array(in_child("interpreter:time_pair", str(path_a), other, inputs, threads, rounds))
    ratios = pairs[:, 0] / pairs[:, 1]
    return Comparison(
        file_a=str(path_a),
        file_b=str(path_b),
        latency_a_ms=float(np.median(pairs[:, 0])),
        latency_b_ms=float(np.median(pairs[:, 1])),
        speedup=float(np.median(ratios)),
        speedup_low=float(np.percentile(ratios, 5)),
        speedup_high=float(np.percentile(ratios, 95)),
        threads=threads,
        rounds=rounds,
    )
