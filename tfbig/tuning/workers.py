"""A search in processes of its own: KerasTuner's chief and its workers; one that dies costs the trial it was in."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tfbig.errors import InvalidFile
from tfbig.isolation import death, free_ports
from tfbig.tuning.log import bury

ALONE, CHIEF, WORKER = "alone", "chief", "worker"
LIFELINE = "TFBIG_LIFELINE"  # A pipe that its parent holds open: when it closes, the process ends.
_WAIT = 3600.0  # seconds for the chief's first steps; KerasTuner waits as long for its answers
_PAUSE = 0.1
_LAST = 300.0  # seconds for workers to see that the chief is done


def role() -> str:
    """What this process is in KerasTuner's protocol, by its environment variables."""
    if "KERASTUNER_ORACLE_IP" not in os.environ:
        return ALONE
    return CHIEF if "chief" in os.environ.get("KERASTUNER_TUNER_ID", "") else WORKER


def wait_for(path: Path, *, since: float = 0.0) -> None:
    """Waits until the chief has written a file.

    Args:
        since: the time after which it must be written, seconds since the epoch.

    Raises:
        InvalidFile: it does not come.
    """
    deadline = time.monotonic() + _WAIT
    while not path.exists() or path.stat().st_mtime < since:
        if time.monotonic() > deadline:
            raise InvalidFile(f"The chief has not written `{path}` within {_WAIT:.0f} s. Look at what it printed.")
        time.sleep(_PAUSE)


def run_in_processes(command: Sequence[str], *, directory: Path, workers: int = 1) -> int:
    """Runs a program that searches in `directory`, and goes on without a trial that takes its process down.

    One worker is the program itself; for several, a chief proposes and they train, at the same time. All are ended
    with this process.

    Args:
        command: the program and its arguments; it is started once for every process, and must search in `directory`.
        workers: processes that train, 1 or more.

    Returns:
        The exit code of the program, or of the chief; negative for the signal that ended it outside of a trial.
    """
    members = [{}] if workers == 1 else _members(workers)
    processes = [_Member(command, environment) for environment in members]
    try:
        return _watch(processes, directory)
    except KeyboardInterrupt:
        for one in processes:
            one.process.send_signal(signal.SIGINT)
        return max(one.process.wait(_LAST) for one in processes)
    finally:
        for one in processes:
            one.end()


def end_with_parent() -> None:
    """Ends this process as soon as the one that started it is gone, if that is `run_in_processes`."""
    if (lifeline := os.environ.pop(LIFELINE, None)) is not None:
        threading.Thread(target=_end_at_close, args=(int(lifeline),), daemon=True).start()


class _Member:
    """One process, started again when a trial took it down."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]):
        self.command, self.environment = list(command), environment
        self.start()

    def start(self) -> None:
        theirs, self.lifeline = os.pipe()
        environment = {**os.environ, **self.environment, LIFELINE: str(theirs)}
        # Ctrl-C is for the parent, which passes it on once.
        self.process = subprocess.Popen(self.command, env=environment, pass_fds=(theirs,), start_new_session=True)
        os.close(theirs)

    def again(self) -> None:
        os.close(self.lifeline)
        self.start()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.lifeline)


def _watch(processes: list[_Member], directory: Path) -> int:
    """Waits for the first one; returns its exit code."""
    while True:
        for one in processes:
            code = one.process.poll()
            if code and bury(directory / "trials", one.process.pid, death(code)):
                one.again()
        first, others = processes[0].process.poll(), [one.process.poll() for one in processes[1:]]
        if first is not None:
            return _joined(first, processes[1:])
        if others and all(others):  # None is left that could train, and not because of a trial.
            return next(code for code in others if code)
        time.sleep(_PAUSE)


def _joined(code: int, workers: list[_Member]) -> int:
    deadline = time.monotonic() + (_LAST if code == 0 else 0.0)
    while time.monotonic() < deadline and any(one.process.poll() is None for one in workers):
        time.sleep(_PAUSE)
    return code


def _members(workers: int) -> list[dict[str, str]]:
    address = {"KERASTUNER_ORACLE_IP": "127.0.0.1", "KERASTUNER_ORACLE_PORT": str(free_ports(1)[0])}
    names = ["chief", *(f"tuner{number}" for number in range(workers))]
    return [{**address, "KERASTUNER_TUNER_ID": name} for name in names]


def _end_at_close(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)
