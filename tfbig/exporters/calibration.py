"""The ranges of a float file's activations on data, in the child process."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfbig.exporters.tensor_ranges import Range, activations, observe
from tfbig.registry import Registry

registry = Registry("tfbig.exporters.calibrations", "calibration")
_BINS = 2048


def calibrate(content: bytes, samples: Sequence[dict[str, np.ndarray]], method: str, bits: int) -> dict[str, Range]:
    """The range of each activation, chosen by one of the `calibrations` from what `samples` show.

    Args:
        bits: of the activations.
    """
    ranges = observe(content, samples)
    if method == "minmax":
        return ranges
    limits = {name: np.linspace(low, max(high, low + 1e-9), _BINS + 1) for name, (low, high) in ranges.items()}
    counts = {name: np.zeros(_BINS) for name in ranges}
    for inputs in samples:
        for name, value in activations(content, inputs):
            counts[name] += np.histogram(value, limits[name])[0]
    choose = registry[method].range_of
    return {name: choose(counts[name], limits[name], 2**bits) for name in ranges}
