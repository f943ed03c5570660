"""`digits`: scikit-learn's bundled handwritten digits, 1,797 images of 8 x 8; no network and no files."""

from __future__ import annotations

import numpy as np

from tfbig.data.arrays import from_arrays
from tfbig.data.dataset import Data, LoadOptions

ARGUMENT = None


def recognises(path: str) -> bool:
    return False


def load(argument: str, options: LoadOptions) -> Data:
    """Loads float32 images of shape `(8, 8, 1)` in [0, 1], cut 70/10/20 and stratified.

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images[..., None].astype(np.float32)
    return from_arrays({"train": (images, bunch.target)}, options, scale=1 / 16)
