"""The format of Keras 2 (`.h5`, `.hdf5`), for tools that read nothing newer."""

from __future__ import annotations

import logging
from pathlib import Path

import keras
from keras.src.models.functional import Functional

from tfbig.compression.native.opener import functional_of
from tfbig.compression.native.prepared import Prepared
from tfbig.errors import InvalidModel
from tfbig.exporters.read_back import check_keras_file

suffixes = (".h5", ".hdf5")


def write(model: keras.Model, path: Path) -> dict:
    """Writes architecture and weights.

    Raises:
        InvalidModel: the model is subclassed or prepared for compression, which the format cannot hold.
    """
    if isinstance(model, Prepared):
        raise InvalidModel(
            f"`model` '{model.name}' is prepared for compression, whose state an {path.suffix} file cannot "
            "hold. Export it as .keras, or the model from before `prepare`."
        )
    if not isinstance(functional_of(model), Functional):
        raise InvalidModel(
            f"`model` '{model.name}' is subclassed ({type(model).__name__}); an {path.suffix} file holds "
            "Functional and Sequential models. Export it as .keras."
        )
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)  # Keras advises against the format, which the user asked for.
    try:
        model.save(path, include_optimizer=False)
        check_keras_file(model, path)
    finally:
        logger.setLevel(level)
    return {}
