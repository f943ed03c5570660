"""All but the rarest: one value in ten thousand is cut off at either end.

Reference: Wu et al. 2020, "Integer Quantization for Deep Learning Inference", https://arxiv.org/abs/2004.09602,
section 5.2.
"""

from __future__ import annotations

import numpy as np

_CUT = 1e-4  # share of the values, at either end


def range_of(counts: np.ndarray, edges: np.ndarray, levels: int) -> tuple[float, float]:
    """The values that all but a share of 1e-4 lie above and below."""
    below = np.concatenate([[0.0], np.cumsum(counts)]) / max(1, counts.sum())
    low, high = np.interp([_CUT, 1 - _CUT], below, edges)
    return min(0.0, float(low)), max(0.0, float(high))
