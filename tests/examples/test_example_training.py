"""The examples of training at scale: checkpoints, several devices, several processes."""

from __future__ import annotations

import re

from running import run_quick


def test_train_big_mlp(tmp_path):
    told = run_quick("train_big_mlp", tmp_path)
    assert "the training done, with the same weights: True" in told
    parameters, accuracy = re.search(r"([\d,]+) parameters  accuracy ([\d.]+)", told).groups()
    assert parameters == "4,078,010" and float(accuracy) > 0.9
    assert (tmp_path / "saved_models/big_mlp/logs/history.csv").read_text().count("\n") == 4


def test_mixed_precision(tmp_path):
    told = run_quick("mixed_precision", tmp_path)
    one = float(re.search(r"one device, float32: accuracy ([\d.]+)", told)[1])
    several, scale = re.search(r"2 devices, mixed_float16: accuracy ([\d.]+)  loss scale (\d+)", told).groups()
    assert one > 0.85 and float(several) > one - 0.05 and int(scale) >= 2**10


def test_multi_worker(tmp_path):
    told = run_quick("multi_worker", tmp_path)
    assert "undisturbed: started again 0 times" in told and "disturbed: started again 1 times" in told
    assert "Worker 1 was killed by SIGKILL" in told and "the same training: True" in told
    losses = [float(loss) for loss in re.search(r"^disturbed: .*losses (.*)$", told, re.MULTILINE)[1].split()]
    assert len(losses) == 3 and losses[-1] < 0.7 * losses[0]
