"""What a person sees of a search while it goes on: a line per trial, the best so far, and the time left."""

from __future__ import annotations

import time
from pathlib import Path

from tfbig.report.figures import count_text, latency_text, quality_text
from tfbig.tuning.shelf import Candidate
from tfbig.tuning.trials import Trial


class Progress:
    """Tells of trials as they end.

    Args:
        total: trials that there will be at most.
        verbose: whether to print.
        done: trials that an earlier run of this search has finished.
    """

    def __init__(self, total: int, *, verbose: bool, done: int = 0):
        self.total, self.verbose, self.done = total, verbose, done
        self.started, self.here = time.monotonic(), 0
        if done:
            self.say(f"{done} of {total} trials were finished before.")

    def say(self, text: str) -> None:
        """Prints a line, at once."""
        if self.verbose:
            print(text, flush=True)

    def ended(self, trial: Trial, last: Candidate | None, best: Candidate | None) -> None:
        """Tells of a trial, of the best one within the budget, and of the time left at this pace."""
        self.done, self.here = self.done + 1, self.here + 1
        outcome = figures_text(last) if last else f"failed: {trial.reason}"
        left = (time.monotonic() - self.started) / self.here * max(0, self.total - self.done)
        self.say(f"Trial {self.done} of {self.total}: {trial.plan}: {outcome} ({trial.seconds:.1f} s)")
        found = f"best within the budget: {best.name}, {figures_text(best)}" if best else "none within the budget yet"
        self.say(f"  {found}; about {_duration(left)} left")


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
