"""What stages established must hold in every later model, and in the file that is delivered."""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from tfbig.compression.native.kernels import compressible_kernels
from tfbig.compression.technique import Technique
from tfbig.errors import InvariantBroken
from tfbig.measurement.measure import Measurement

_SLACK = 0.002  # Zero shares of model and file are counted over slightly different sets of tensors.


def check_model(techniques: Iterable[Technique], model: keras.Model) -> None:
    """Raises `InvariantBroken` unless the model has what each of the techniques, past and present, promised."""
    for technique in techniques:
        technique.verify(model)


def check_file(model: keras.Model, measurement: Measurement) -> None:
    """Raises `InvariantBroken` if the file has fewer zeros than the model it was written from."""
    weights = [kernel.variable.numpy() for kernel in compressible_kernels(model, min_size=1)]
    zeros = sum(int(np.sum(w == 0)) for w in weights) / sum(w.size for w in weights)
    if measurement.zero_fraction < zeros - _SLACK:
        raise InvariantBroken(
            f"'{measurement.file}' has {measurement.zero_fraction:.2%} zeros among its weights, the model {zeros:.2%}. "
            "The converter changed the weights; please report this model."
        )
