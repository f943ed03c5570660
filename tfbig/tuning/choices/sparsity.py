"""The share of zeros in all layers together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfbig.compression.techniques.prune import Prune
from tfbig.errors import check_range
from tfbig.tuning.choice import Choice


class Sparsity(Choice):
    place = 3
    values = (0.0, 0.5, 0.7, 0.8, 0.9)
    unchanged = 0.0
    technique = Prune
    option = "sparsity"

    def checked(self, argument: str, value: Any) -> float:
        check_range(argument, value, 0, 1, closed="left")
        return float(value)

    def size(self, value: float) -> float:
        return 1 - value

    def harm(self, value: float) -> float:
        return 2.5 * value**3

    def options(self, value: float, spared: Sequence[str]) -> dict[str, Any]:
        return {"sparsity": value, "scope": "global", "layers": dict.fromkeys(spared) or None}


choice = Sparsity()
