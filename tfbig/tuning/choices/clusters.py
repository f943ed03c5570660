"""How many values a tensor has; 0 for any number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tfbig.compression.techniques.cluster import Cluster
from tfbig.errors import check_count
from tfbig.tuning.choice import Choice


class Clusters(Choice):
    place = 4
    values = (0, 64, 32, 16, 8)
    unchanged = 0
    technique = Cluster
    option = "clusters"

    def checked(self, argument: str, value: Any) -> int:
        count = check_count(argument, value, low=0)
        return Cluster(clusters=count).clusters if count else 0

    def size(self, value: int) -> float:
        return value or math.inf

    def harm(self, value: int) -> float:
        return 8 / value if value else 0.0

    def options(self, value: int, spared: Sequence[str]) -> dict[str, Any]:
        return {"clusters": value, "layers": dict.fromkeys(spared) or None}


choice = Clusters()
