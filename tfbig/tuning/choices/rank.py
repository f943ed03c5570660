"""The share of the full rank that low-rank factorisation keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from tfbig.compression.techniques.low_rank import LowRank
from tfbig.tuning.choice import Choice


class Rank(Choice):
    place = 2
    values = (1.0, 0.75, 0.5, 0.25)
    technique = LowRank
    option = "rank"
    rivals = len(values)  # A layer of high rank may be smaller and faster as it is than in two factors.

    def harm(self, value: float) -> float:
        return 5 * (1 - value)

    def options(self, value: float, spared: Sequence[str]) -> dict[str, Any]:
        return {"rank": value, "exclude": tuple(spared)}

    def check_model(self, model: keras.Model) -> None:
        LowRank(rank=0.25).plan(model)


choice = Rank()
