"""The records of trials in a folder: what came of each one, and which one a process died in."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from tfbig.files import atomic_file

_DEATHS = 2  # Once, the process may have been killed by someone who had nothing to do with the trial.


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of one trial.

    Attributes:
        stages: names of the files on the shelf of those stages that were finished.
        reason: why it failed; None if it was completed.
        score: what the search maximizes; None for a failed trial.
    """

    number: str
    plan: str
    values: dict[str, Any]
    epochs: int
    seconds: float
    stages: tuple[str, ...] = ()
    reason: str | None = None
    score: float | None = None


class Log:
    """The trials' records in a folder, one file each, written whole when a trial ends."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def trials(self) -> list[Trial]:
        """All trials that ended, in their order."""
        entries = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.folder.glob("*.json"))]
        trials = [Trial(**{**entry, "stages": tuple(entry["stages"])}) for entry in entries]
        return sorted(trials, key=lambda trial: int(trial.number))

    def find(self, number: str, plan: Any) -> Trial | None:
        """The record of a trial that ended before the search was stopped, though KerasTuner did not learn of it."""
        path = self.folder / f"{number}.json"
        entry = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if (entry.get("plan"), entry.get("epochs")) != (str(plan), plan.epochs):
            return None
        return Trial(**{**entry, "stages": tuple(entry["stages"])})

    def write(self, trial: Trial) -> None:
        with atomic_file(self.folder / f"{trial.number}.json") as partial:
            partial.write_text(json.dumps(dataclasses.asdict(trial)), encoding="utf-8")
        self.forgive(trial.number)

    def forgive(self, number: str) -> None:
        """Forgets that a trial has begun."""
        for path in (self._begun(number), self._died(number)):
            path.unlink(missing_ok=True)

    def begin(self, number: str) -> str | None:
        """Notes that this process begins a trial; says why it must not, if the trial has taken processes down."""
        if self._died(number).exists():
            return f"The process {self._died(number).read_text(encoding='utf-8')} in the middle of it."
        before = self._begun(number).read_text(encoding="utf-8").split() if self._begun(number).exists() else []
        if len(before) >= _DEATHS:
            return f"The process died in the middle of it {_DEATHS} times."
        with self._begun(number).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        return None

    def _begun(self, number: str) -> Path:
        return self.folder / f"{number}.begun"

    def _died(self, number: str) -> Path:
        return self.folder / f"{number}.died"


def bury(folder: Path, process: int, cause: str) -> bool:
    """Gives up the trial that a dead process was in the middle of; False if there is none.

    Args:
        folder: of the log; it need not exist.
        process: its number.
        cause: such as "was killed by SIGSEGV".
    """
    for path in folder.glob("*.begun"):
        if path.read_text(encoding="utf-8").split()[-1:] == [str(process)]:
            path.with_suffix(".died").write_text(cause, encoding="utf-8")
            return True
    return False
