"""The range whose integers keep the distribution of the values: the least Kullback-Leibler divergence.

Reference: Migacz 2017, "8-bit Inference with TensorRT", GTC; the histogram here is of magnitudes, and the range is cut
at the same magnitude at both ends.
"""

from __future__ import annotations

import numpy as np

_BINS, _STRIDE = 1024, 8
_SMALLEST = 1e-12


def range_of(counts: np.ndarray, edges: np.ndarray, levels: int) -> tuple[float, float]:
    """Both ends, cut at the best magnitude."""
    low, high = float(edges[0]), float(edges[-1])
    largest = max(-low, high)
    bins = min(levels // 2, 128) if low < 0 else min(levels, 256)
    magnitudes = np.abs((edges[:-1] + edges[1:]) / 2)
    histogram, _ = np.histogram(magnitudes, _BINS, (0.0, largest), weights=counts)
    histogram[0] = histogram[1]  # Zeros, of which ReLU makes many, are exact in every range.
    stops = list(range(bins, _BINS, _STRIDE)) + [_BINS]
    best = min(stops, key=lambda stop: (_divergence(histogram, stop, bins), -stop))
    cut = largest * best / _BINS
    return max(low, -cut), min(high, cut)


def _divergence(histogram: np.ndarray, stop: int, bins: int) -> float:
    """Between the values cut off at bin `stop` and the same in `bins` steps."""
    kept = histogram[:stop].astype("float64")
    cut = kept.copy()
    cut[-1] += histogram[stop:].sum()
    owner = np.arange(stop) * bins // stop
    filled = kept > 0
    sums = np.bincount(owner, kept, bins)
    shares = np.bincount(owner, filled, bins)
    coarse = np.where(filled, (sums / np.maximum(shares, 1))[owner], 0.0)
    p, q = cut / max(cut.sum(), _SMALLEST), coarse / max(coarse.sum(), _SMALLEST)
    seen = p > 0
    return float(np.sum(p[seen] * np.log(p[seen] / np.maximum(q[seen], _SMALLEST))))
