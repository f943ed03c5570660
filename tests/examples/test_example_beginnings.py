"""`optimizers.py` and `big_mlp.py`: the shortest programs."""

from __future__ import annotations

import re

from running import accuracies, run_quick


def test_optimizers(tmp_path):
    told = run_quick("optimizers", tmp_path)
    rows = re.findall(r"^(\w[\w -]+?) +([\d,]+) steps  loss ([\d.]+)$", told, re.MULTILINE)
    losses = {name: float(loss) for name, _, loss in rows}
    assert [int(steps.replace(",", "")) for _, steps, _ in rows] == [4, 4 * 1258, 4 * 40]
    assert losses["mini-batches of 32"] < losses["gradient descent"]
    assert accuracies(told)["1 quantize int8"] > 85
    picture = (tmp_path / "saved_models" / "optimizers" / "curves.html").read_text()
    assert picture.count("<polyline") == 3


def test_big_mlp(tmp_path):
    told = run_quick("big_mlp", tmp_path)
    pruned, distilled = (accuracies(part) for part in told.split("\nBeside float, 1 prune")[:2])
    assert pruned["float"] > 85 and pruned["1 prune 0.5"] > 80
    assert list(distilled) == ["float", "1 distill", "2 quantize int8"] and distilled["2 quantize int8"] > 80
