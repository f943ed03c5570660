"""All that was seen: nothing is cut off, and rare large values make all steps wide."""

from __future__ import annotations

import numpy as np


def range_of(counts: np.ndarray, edges: np.ndarray, levels: int) -> tuple[float, float]:
    """The smallest and the largest value."""
    return float(edges[0]), float(edges[-1])
