"""`examples/distill.py` runs, and its students know what the teacher taught them."""

import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "distill.py"


def test_the_example_teaches_its_students():
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--quick"], capture_output=True, text=True, timeout=300, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = dict(re.findall(r"^(.+?) +[\d,]+ parameters  accuracy ([\d.]+)$", done.stdout, re.MULTILINE))
    accuracy = {name: float(value) for name, value in rows.items()}
    assert list(accuracy) == ["teacher", "student alone", "student, distilled", "student, Distill"]
    assert accuracy["teacher"] > 0.93
    assert min(accuracy["student, distilled"], accuracy["student, Distill"]) > accuracy["student alone"] + 0.02
