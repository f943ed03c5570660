"""The whole way in one call, on data that scikit-learn brings: what `tfbig demo` runs."""

from __future__ import annotations

import os
from typing import Any

import keras

from tfbig import data, models, training
from tfbig.compression.recipe import Recipe
from tfbig.compression.techniques.prune import Prune
from tfbig.compression.techniques.quantize import Quantize
from tfbig.files import refuse_existing
from tfbig.pipeline.compress import compress
from tfbig.pipeline.result import Result

RECIPE = Recipe(
    [Prune(sparsity=0.8), Quantize("int8")],
    name="demo",
    description="80 % of the weights become zero, then everything becomes 8-bit integers; the zeros stay.",
)
_FLOAT_EPOCHS, _STAGE_EPOCHS = 15, 10


def demo(out: str | os.PathLike, *, seed: int = 0, overwrite: bool = False, verbose: Any = "auto") -> Result:
    """Trains a ResNet-8 on 8x8 handwritten digits, prunes and quantizes it, and saves the measured files in `out`.

    Raises:
        OutputExists: `out` holds something and `overwrite` is false.
    """
    refuse_existing(out, overwrite)
    keras.utils.set_random_seed(seed)
    digits = data.load("digits", seed=seed)
    model = models.build("resnet", depth=8, input_shape=(8, 8, 1), classes=10)
    if verbose:
        print(f"Training {model.name} ({model.count_params():,} parameters) on {digits.spec.samples['train']:,} digits")
    training.fit(
        model,
        digits.train,
        validation_data=digits.validation,
        epochs=_FLOAT_EPOCHS,
        schedule="cosine",
        learning_rate=2e-3,
        verbose=verbose,
    )
    splits = {"train": digits.train, "validation": digits.validation, "test": digits.test}
    result = compress(model, RECIPE, **splits, epochs=_STAGE_EPOCHS, seed=seed, verbose=verbose)
    return result.save(out, saved_model=True, overwrite=overwrite)
