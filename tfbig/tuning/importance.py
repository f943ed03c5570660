"""Which choices made the difference: the share of the scores' variance that each one explains by itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfbig.tuning.log import Trial


def importance(trials: Sequence[Trial]) -> dict[str, float]:
    """The correlation ratio of each choice, in [0, 1], the largest first; empty with fewer than three trials.

    It is the variance between the means of a choice's values over the variance of all, corrected for the number of
    values, which would explain some of any noise.

    Reference:
        Kelley, "An unbiased correlation ratio measure" (1935), PNAS 21(9): epsilon squared.
    """
    done = [trial for trial in trials if trial.score is not None]
    scores = np.array([trial.score for trial in done], float)
    total = float(((scores - scores.mean()) ** 2).sum()) if len(done) else 0.0
    if len(done) < 3 or total == 0:
        return {}
    found = {}
    for name in done[0].values:
        groups = [scores[[t.values[name] == value for t in done]] for value in {t.values[name] for t in done}]
        spare = len(done) - len(groups)
        if len(groups) > 1 and spare > 0:
            inside = sum(float(((group - group.mean()) ** 2).sum()) for group in groups)
            found[name] = max(0.0, 1 - (inside / spare) / (total / (len(done) - 1)))
    return dict(sorted(found.items(), key=lambda item: -item[1]))
