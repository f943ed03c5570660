"""Several worker processes on this machine, started together and, when one dies, started again together."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tfbig.errors import InvalidArgument, TfbigError, check_count
from tfbig.isolation import death, free_ports


class WorkersFailed(TfbigError, RuntimeError):
    """The workers died more often than they were to be started again."""


def launch(command: Sequence[str], *, workers: int = 2, restarts: int = 3) -> int:
    """Runs a training program in several processes that train together, until all of them are done.

    Each gets a `TF_CONFIG` for loopback, so that `tfbig.training.fit(..., strategy="multiworker", checkpoint=folder)`
    works in it. A worker that dies, whatever kills it, takes the step of all others with it; all are then stopped and
    started again, and go on from the last checkpoint. The first worker prints to this process's output; what the
    others print is shown when they fail.

    Args:
        command: the program and its arguments, such as `[sys.executable, "train.py"]`.
        workers: number of processes, >= 1.
        restarts: times to start again, >= 0.

    Returns:
        How often the workers were started again.

    Raises:
        InvalidArgument: a number out of range, or a program that is not there.
        WorkersFailed: a worker died once more than `restarts`; the message ends with what it printed last.

    Reference:
        Dean et al., "Large Scale Distributed Deep Networks", NeurIPS 2012; here with synchronous steps and a restart.
    """
    check_count("workers", workers)
    check_count("restarts", restarts, low=0)
    for attempt in range(restarts + 1):
        failure = _attempt(list(command), workers)
        if failure is None:
            return attempt
        print(f"{failure.splitlines()[0]} Starting again: {attempt + 1} of {restarts}.", flush=True)
    raise WorkersFailed(f"Started {restarts + 1} times. {failure}")


def _attempt(command: list[str], count: int) -> str | None:
    """Runs all workers once; says what failed, or None."""
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(count)]}
    with tempfile.TemporaryDirectory(prefix="tfbig-workers-") as folder:
        logs = [Path(folder) / f"{index}.log" for index in range(count)]
        processes: list[subprocess.Popen] = []
        with _ended_by_signals(), contextlib.ExitStack() as stack:
            stack.callback(_end, processes)
            for index, log in enumerate(logs):
                task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
                processes.append(_start(command, {**os.environ, "TF_CONFIG": json.dumps(task)}, log, index))
            failed = _first_failure(processes)
        if failed is None:
            return None
        told = logs[failed].read_text(errors="replace").strip().splitlines()[-20:]
        return "\n".join([f"Worker {failed} {death(processes[failed].returncode)}.", *told])


def _start(command: list[str], environment: dict[str, str], log: Path, index: int) -> subprocess.Popen:
    with open(log, "wb") as file:
        try:
            return subprocess.Popen(command, env=environment, stdout=None if index == 0 else file, stderr=file)
        except OSError as error:
            raise InvalidArgument(
                f"`command` must start a program, received {command!r}: {error.strerror}. To run Python, begin with "
                "sys.executable."
            ) from error


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """A polite request to end, which Python alone obeys without a word to its workers, is an exit like any other."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(processes: list[subprocess.Popen]) -> None:
    for process in processes:
        process.kill()
        process.wait()


def _first_failure(processes: list[subprocess.Popen]) -> int | None:
    """Waits until one has failed, and says which, or until all are done."""
    while True:
        codes = [process.poll() for process in processes]
        failed = [index for index, code in enumerate(codes) if code]
        if failed:
            # The others fail because of the one that was killed: it is the one to name.
            return min(failed, key=lambda index: (codes[index] or 0) > 0)
        if all(code == 0 for code in codes):
            return None
        time.sleep(0.1)
