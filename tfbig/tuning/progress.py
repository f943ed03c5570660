"""What a person sees of a search while it goes on: the trials so far, the best one, and the time left."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tfbig.report.figures import count_text, latency_text, quality_text
from tfbig.tuning.log import Trial
from tfbig.tuning.shelf import Candidate
from tfbig.tuning.workers import ALONE, role

_ROWS = 15  # of the table: the last trials


class Progress:
    """Tells of trials: by a table that lives on a terminal, by a line for each elsewhere.

    Args:
        total: trials that there will be at most.
        verbose: whether to print.
        done: trials that an earlier run of this search has finished.
    """

    def __init__(self, total: int, *, verbose: bool, done: int = 0):
        self.total, self.verbose, self.done = total, verbose, done
        self.started, self.here, self.since = time.monotonic(), 0, time.monotonic()
        self.rows: list[tuple[str, ...]] = []
        self.now = self.found = ""
        console = Console()
        self.live = None
        if verbose and console.is_terminal and role() == ALONE:  # Several tables would write over each other.
            self.live = Live(get_renderable=self._table, console=console, refresh_per_second=2)

    def __enter__(self) -> Progress:
        if self.live:
            self.live.start()
        if self.done:
            self.say(f"{self.done} of {self.total} trials were finished before.")
        return self

    def __exit__(self, *error: Any) -> None:
        self.now = ""
        if self.live:
            self.live.stop()

    def say(self, text: str) -> None:
        """Prints a line, at once; above the table, if there is one."""
        if self.verbose:
            print(text, flush=True)

    def doing(self, text: str) -> None:
        """Notes what goes on, for the table."""
        self.now, self.since = text, time.monotonic()

    def ended(self, trial: Trial, outcome: str, found: str) -> None:
        """Tells of a trial that `done` counts, of the best one so far, and of the time left at this pace."""
        self.here += 1
        self.rows.append((str(self.done), trial.plan, outcome, f"{trial.seconds:.1f}"))
        self.found = found
        if not self.live:
            self.say(f"Trial {self.done} of {self.total}: {trial.plan}: {outcome} ({trial.seconds:.1f} s)")
            self.say(f"  {found}; about {_duration(self._left())} left")

    def _left(self) -> float:
        """Seconds, at the pace so far."""
        pace = (time.monotonic() - self.started) / max(1, self.here)
        return pace * max(0, self.total - self.done)

    def _table(self) -> Group:
        table = Table("trial", "recipe", "outcome", "seconds", title=f"{self.done} of {self.total} trials")
        for row in self.rows[-_ROWS:]:
            table.add_row(*(Text(cell) for cell in row))
        lines = [self.found] if self.found else []
        if self.now:
            left = f"; about {_duration(self._left())} left" if self.here else ""
            lines.append(f"{self.now} ({_duration(time.monotonic() - self.since)}){left}")
        return Group(*([table] if self.rows else []), *(Text(line) for line in lines))


def figures_text(candidate: Candidate) -> str:
    """Quality, bytes and latency in a line."""
    m = candidate.measurement
    quality = [f"{m.quality_name} {quality_text(m.quality, m.quality_name)}"] if m.quality is not None else []
    return ", ".join([*quality, f"{count_text(m.bytes)} bytes", f"{latency_text(m.latency_ms)} ms"])


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def log_hyperparameters(trial: Trial, last: Candidate | None, folder: Path) -> None:
    """Writes a trial for TensorBoard's HParams page."""
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    with tf.summary.create_file_writer(str(folder / trial.number)).as_default():
        api.hparams(dict(trial.values), trial_id=trial.number)
        if last is not None:
            m = last.measurement
            for name, value in {"quality": m.quality, "bytes": m.bytes, "latency_ms": m.latency_ms}.items():
                if value is not None:
                    tf.summary.scalar(name, value, step=1)
