"""A LiteRT file run and timed: `run_litert`, `time_litert`. The interpreter lives in a child process."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfbig.errors import ConversionFailed, check_count
from tfbig.isolation import run_isolated

_TIMEOUT = 1800.0  # seconds


@dataclasses.dataclass(frozen=True)
class Latency:
    """Time of one invocation, at the file's own batch size (1 unless it was exported with another)."""

    median_ms: float
    p95_ms: float
    threads: int
    runs: int


def run_litert(
    path: str | os.PathLike,
    inputs: Sequence[np.ndarray] | Mapping[str, np.ndarray],
    *,
    signature: str | None = None,
    threads: int | None = None,
    timeout: float = _TIMEOUT,
) -> list[np.ndarray]:
    """Runs a LiteRT file on real numbers and returns real numbers, whatever the file's own types are.

    Quantized inputs are quantized by the tensor's scale and zero point, quantized outputs come back as
    float32. Any number of samples goes in: the batch dimension is resized where that gives the same outputs,
    else the samples run one by one. Recurrent state is cleared between invocations.

    Args:
        inputs: one array `(samples, ...)` per input: a dictionary by the names in the file's signature, or a list
            in the order of the Keras model's `inputs`. A file that tfbig did not write takes a list only if the
            arrays fit in one order.
        signature: which one to run, of a file with several; by default the first graph.
        threads: of the interpreter; by default the machine's cores, 4 at most.
        timeout: seconds for the whole call.

    Returns:
        One array `(samples, ...)` per output, in the order of a Keras model's `outputs` (a dictionary's keys
        sorted).

    Raises:
        InvalidFile: the file is missing, damaged or not a LiteRT file.
        InvalidData: the inputs do not fit the file.
        InvalidArgument: the file has no such signature.
        ConversionFailed: LiteRT refuses the file, crashes on it, or does not finish.
    """
    threads = check_count("threads", threads or min(4, os.cpu_count() or 1))
    arrays = {k: np.asarray(v) for k, v in inputs.items()} if isinstance(inputs, Mapping) else list(inputs)
    return in_child("interpreter:predict", str(path), arrays, threads, signature, timeout=timeout)


def time_litert(
    path: str | os.PathLike,
    inputs: Sequence[np.ndarray] | Mapping[str, np.ndarray] | None = None,
    *,
    threads: int = 1,
    runs: int = 50,
    xnnpack: bool = True,
) -> Latency:
    """Times a LiteRT file in its default runtime (XNNPACK), after a warm-up of at least 5 runs and 0.1 s.

    Args:
        inputs: as of `run_litert`; the first sample is used. Without it, random numbers at the file's own
            shape.
        threads: of the interpreter.
        runs: timed invocations.
        xnnpack: False times LiteRT's own kernels, which stand in for what a device without XNNPACK runs.

    Raises:
        The same as `run_litert`.
    """
    check_count("threads", threads)
    check_count("runs", runs)
    times = in_child("interpreter:time_file", str(path), inputs, threads, runs, xnnpack, timeout=_TIMEOUT)
    return Latency(float(np.median(times)), float(np.percentile(times, 95)), threads, runs)


def in_child(function: str, path: str, *args: Any, timeout: float = _TIMEOUT) -> Any:
    """Calls a function of this package on a file, in the interpreter's child process.

    A malformed file that ran earlier may have corrupted the child's memory without killing it. So when the
    child dies it is asked again in a new process: only a file that kills a fresh child is to blame.
    """
    target = f"tfbig.measurement.{function}"
    # The child may have been started in another working directory.
    call = functools.partial(run_isolated, target, os.path.abspath(path), *args, timeout=timeout, worker="interpret")
    with contextlib.suppress(_ChildDied):
        return _reporting_death(call)
    try:
        return _reporting_death(call)
    except _ChildDied as error:
        raise ConversionFailed(
            f"LiteRT crashed on `{path}`: {error}\nThe file is damaged, or meets a fault in a kernel. "
            "Export it again; if that does not help, export with another `quantize`."
        ) from None


class _ChildDied(ConversionFailed):
    """The child process is gone, as opposed to having refused."""


def _reporting_death(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except ConversionFailed as error:
        raise _ChildDied(str(error)) if "its child process" in str(error) else error from None
