"""The range whose rounding and cutting off together make the least squared error.

Reference: Sung et al. 2015, "Resiliency of Deep Neural Networks under Quantization",
https://arxiv.org/abs/1511.06488, section 3: the L2 error of the quantizer, minimised.
"""

from __future__ import annotations

import numpy as np

_SHARES = np.linspace(1.0, 0.1, 46)  # of either end, the widest first


def range_of(counts: np.ndarray, edges: np.ndarray, levels: int) -> tuple[float, float]:
    """The best upper end for the whole lower one, then the best lower end for that."""
    low, high = float(edges[0]), float(edges[-1])
    high = min((share * high for share in _SHARES), key=lambda end: _error(counts, edges, low, end, levels))
    low = min((share * low for share in _SHARES), key=lambda end: _error(counts, edges, end, high, levels))
    return low, high


def _error(counts: np.ndarray, edges: np.ndarray, low: float, high: float, levels: int) -> float:
    step = (high - low) / (levels - 1)
    if step <= 0:
        return float("inf")
    values = (edges[:-1] + edges[1:]) / 2
    cut_off = values - np.clip(values, low, high)
    # Inside the range the error of rounding is uniform over a step.
    return float(np.sum(counts * np.where(cut_off == 0, step**2 / 12, cut_off**2)))
