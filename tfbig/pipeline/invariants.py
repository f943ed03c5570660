"""What stages established must hold in every later model, and in the file that is delivered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np

from tfbig.compression.native.kernels import compressible_kernels, shares_values
from tfbig.compression.technique import Technique
from tfbig.errors import InvariantBroken
from tfbig.measurement.inspect import inspect
from tfbig.measurement.measure import Measurement

_SLACK = 0.002  # Zeros of model and file are counted over slightly different sets of tensors.


def check_model(techniques: Iterable[Technique], model: keras.Model) -> None:
    """Raises `InvariantBroken` unless the model has what each of the techniques, past and present, promised."""
    for technique in techniques:
        technique.verify(model)


def check_file(model: keras.Model, measurement: Measurement) -> None:
    """Raises `InvariantBroken` if zeros of the model became other numbers in the file that was written from it.

    The file then has fewer zeros and more of other weights. A converter may add constants of its own, or leave out
    tensors that are zero altogether; neither is a loss.
    """
    arrays = [kernel.variable.numpy() for kernel in compressible_kernels(model, min_size=1)]
    size, others = sum(w.size for w in arrays), sum(int(np.count_nonzero(w)) for w in arrays)
    in_file = measurement.weights or 0
    zeros_in_file = round(measurement.zero_fraction * in_file)
    slack = max(_SLACK * size, 1)
    if zeros_in_file < size - others - slack and in_file - zeros_in_file > others + slack:
        raise InvariantBroken(
            f"'{measurement.file}' has {measurement.zero_fraction:.2%} zeros among its weights, the model "
            f"{1 - others / size:.2%}. The converter changed the weights; please report this model."
        )


def check_clusters(model: keras.Model, file: Path) -> None:
    """Raises `InvariantBroken` if a tensor of the LiteRT file has more distinct values in a channel than the model's.

    Tensors are told apart by their sizes. What the converter cut into pieces or put together has no counterpart, and
    goes unchecked, as does a file of a model without clusters.
    """
    kernels = compressible_kernels(model, min_size=1)
    if not any(shares_values(kernel.variable.numpy()) for kernel in kernels):
        return
    promised = _by_size((kernel.size, np.unique(kernel.variable.numpy()).size) for kernel in kernels)
    in_file = _by_size((op.weights, op.distinct_per_channel) for op in inspect(file).ops if op.distinct_per_channel)
    for size, counts in in_file.items():
        # The largest of the file may be constants of the converter's own, the smallest of the model left out as equal.
        for found, most in zip(counts, promised[size][-len(counts) :], strict=False):
            if found > most:
                raise InvariantBroken(
                    f"'{file}' has {found} distinct values in a channel of a tensor of {size:,} weights, the model "
                    f"{most}. The converter changed the weights; please report this model."
                )


def _by_size(pairs: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    """The numbers of each size, in ascending order."""
    found: dict[int, list[int]] = defaultdict(list)
    for size, number in sorted(pairs):
        found[size].append(number)
    return found
