"""Ctrl-C, a killed run and a full disk: no traceback, nothing half-written, and `--resume` goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tfbig

RUN = "import sys; from tfbig.cli.main import main; sys.exit(main(sys.argv[1:]))"
NO_FILE_ABOVE_30_KB = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)); "


@pytest.fixture
def start(model_file, digits_file, tmp_path):
    """Starts `tfbig compress` as a program of its own."""

    def start(*options: object, epochs: int = 500, script: str = RUN) -> subprocess.Popen:
        arguments = (
            "compress",
            model_file,
            "--data",
            digits_file,
            "--recipe",
            "balanced",
            "--epochs",
            epochs,
            *options,
        )
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments), "--out", "result"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(tfbig.__file__).parents[1])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Whoever runs the tests in the background may ignore Ctrl-C, and this is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return start


def until(process: subprocess.Popen, text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"'{text}' was never printed: {process.stderr.read()}")


def test_ctrl_c_in_mid_training_leaves_nothing(start, tmp_path):
    process = start()
    until(process, "Epoch 3/500")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "tfbig: stopped. Nothing half-written was left behind.\n"
    assert os.listdir(tmp_path) == []


def test_killed_run_goes_on_with_resume(start, tmp_path):
    process = start(epochs=2)
    until(process, "Stage 2 of 2")
    process.kill()
    process.communicate(timeout=60)
    assert os.listdir(tmp_path) == ["result.partial"]
    process = start("--resume", epochs=2)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (0, "")
    assert "Stage 1 of 2: prune 0.7 + distill: finished before\n" in out and out.count("Epoch 1/2") == 1
    assert os.listdir(tmp_path) == ["result"]
    report = json.loads((tmp_path / "result" / "report.json").read_text())
    stages = ["1 prune 0.7 + distill", "2 quantize int8 + distill"]
    assert [row["stage"] for row in report["rows"]] == ["float", *stages[:1], "model.keras", *stages[1:]]
    assert list(report["histories"]) == stages


def test_full_disk(start, tmp_path):
    process = start("--quiet", epochs=1, script=NO_FILE_ABOVE_30_KB + RUN)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (1, "")
    assert err == "tfbig: File too large. Make room, or choose another --out. Nothing half-written was left behind.\n"
    assert os.listdir(tmp_path) == []
