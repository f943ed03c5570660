"""After every export: does the file compute what the model computes?"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from tfbig.errors import ConversionFailed, InvalidModel

EXACT = 1e-3  # of the largest output, for files that compute in float32
ROUNDED = 1.0  # noise over signal, root mean square: a quantized file above it says nothing about the model any more
_DOUBTFUL = 0.3  # the same: about 10 dB, where most files have 20 to 40


def check_outputs(
    kind: str,
    outputs: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    *,
    exact: bool,
    typical: bool = False,
) -> None:
    """Raises `ConversionFailed` unless a file gives the model's numbers, and names its worst output.

    Of a model that gives no numbers, it says so by `InvalidModel`.

    Args:
        kind: what the file is called in the error: "LiteRT file".
        exact: the file computes in float; else it only must be nearer to the model than zeros would be.
        typical: the inputs were the user's; a warning then says so if it is not much nearer.
    """
    if len(outputs) != len(expected):
        raise ConversionFailed(
            f"The {kind} has {len(outputs)} outputs, the model {len(expected)}. The file was not kept."
        )
    for index, (got, want) in enumerate(zip(outputs, expected, strict=True)):
        if not np.all(np.isfinite(want)):
            raise InvalidModel(
                f"Output {index} of the model itself is NaN or infinite for plain inputs, so that no file can be "
                "compared with it. Look for weights that are not finite, and load the last good ones."
            )
        if got.shape != want.shape or not np.all(np.isfinite(got)):
            raise ConversionFailed(
                f"Output {index} of the {kind} has shape {got.shape} or values that are not finite; the "
                f"model gives {want.shape}. The file was not kept."
            )
    errors = [_excess(got, want, exact) for got, want in zip(outputs, expected, strict=True)]
    worst = max(range(len(errors)), key=lambda i: errors[i][0] / errors[i][1], default=None)
    if worst is not None and errors[worst][0] > errors[worst][1]:
        error, tolerance = errors[worst]
        raise ConversionFailed(
            f"Output {worst} of the {kind} differs from the Keras model by {error:.3g} (allowed {tolerance:.3g}"
            f"{'' if exact else ', root mean square'}). The file was not kept."
            + ("" if exact else " Give more calibration data, or look with tfbig.debug which layers suffer.")
        )
    if worst is not None and typical and errors[worst][0] > _DOUBTFUL * errors[worst][1]:
        share = errors[worst][0] / errors[worst][1]
        warnings.warn(
            f"Output {worst} of the {kind} differs from the Keras model by {share:.0%} of its size (root mean square) "
            "on the samples that were compared. Measure its quality; tfbig.debug shows which layers suffer, and "
            "training under tfbig.Quantize mends most.",
            stacklevel=2,
        )


def _excess(got: np.ndarray, want: np.ndarray, exact: bool) -> tuple[float, float]:
    """The error, and what is allowed."""
    if not want.size:
        return 0.0, 1.0
    difference = got.astype("float64") - want
    if exact:
        return float(np.max(np.abs(difference))), EXACT * max(1.0, float(np.max(np.abs(want))))
    signal = float(np.sqrt(np.mean(np.square(want, dtype="float64"))))
    return float(np.sqrt(np.mean(np.square(difference)))), ROUNDED * max(signal, EXACT)
