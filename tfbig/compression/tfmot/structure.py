"""Zeros and clusters of weight tensors as text, for what TFMOT derives from weights and keeps outside its variables."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np

_MOST_VALUES = 1024  # TFMOT takes a tensor for clustered up to so many distinct values.


def encode(weights: np.ndarray) -> dict[str, Any]:
    """What is zero, and what is equal to what, as JSON values."""
    values, index = np.unique(weights, return_inverse=True)
    clustered = len(values) <= _MOST_VALUES
    labels = np.where(values == 0, 0, np.arange(1, len(values) + 1))[index] if clustered else weights != 0
    packed = zlib.compress(labels.astype("<u2").tobytes(), 9)
    return {"shape": list(weights.shape), "clustered": clustered, "labels": base64.b64encode(packed).decode()}


def decode(config: dict[str, Any]) -> np.ndarray:
    """Weights of the same structure: zeros where there were zeros, equal values where there were equal values."""
    labels = np.frombuffer(zlib.decompress(base64.b64decode(config["labels"])), "<u2").astype("float32")
    if not config["clustered"]:
        labels = labels * np.arange(1, labels.size + 1, dtype="float32")
    return labels.reshape(config["shape"])
