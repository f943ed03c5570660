"""`dqn.py` learns CartPole, and plays from the file."""

from __future__ import annotations

import re

from running import accuracies, run_quick


def test_dqn(tmp_path):
    told = run_quick("dqn", tmp_path)
    rows = re.findall(r"^(.+): mean return ([\d.]+)  ([\d.]+) microseconds per decision$", told, re.MULTILINE)
    returns = {stage: float(mean) for stage, mean, _ in rows}
    assert list(returns) == ["float", "1 prune 0.5", "2 quantize int8"]
    assert returns["float"] > 100  # A random policy reaches about 22.
    assert returns["2 quantize int8"] > 0.6 * returns["float"]
    assert accuracies(told)["2 quantize int8"] > 85
