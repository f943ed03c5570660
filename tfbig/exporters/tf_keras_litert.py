"""tf_keras models, and those that were trained under TFMOT's quantization, on their way into a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from tfbig.compression.tfmot.adoption import adopted_layer, as_keras
from tfbig.compression.tfmot.toolkit import is_tf_keras
from tfbig.errors import InvalidArgument, InvalidModel


def exportable(model: Any, path: Path) -> Any:
    """A tf_keras model as a Keras 3 model with the same variables; any other model as it is.

    Raises:
        InvalidArgument: a `.keras` file is asked for, which tf_keras writes itself.
    """
    if not is_tf_keras(model):
        return model
    if path.suffix == ".keras":
        raise InvalidArgument(
            f"`path` '{path.name}' is a .keras file, which a tf_keras model writes itself: "
            f"model.save('{path.name}'). tfbig.load brings that file to Keras 3."
        )
    return as_keras(model)


def as_trained(model: keras.Model, quantize: str | None) -> dict[str, Any] | None:
    """How the converter quantizes a model that TFMOT trained for it; None for any other model.

    Raises:
        InvalidArgument: another quantization than the trained one is asked for.
        InvalidModel: the model saw no data while its ranges were to be found.
    """
    layer = adopted_layer(model)
    if layer is None:
        return None
    from tfbig.compression.tfmot.wrappers import quantize as wrapper  # It imports TFMOT.

    if not wrapper.is_wrapped(layer.inner):
        return None
    if quantize not in (None, "int8"):
        raise InvalidArgument(
            f"`quantize` is '{quantize}', but the model was trained by TFMOT for 'int8'. Leave `quantize` out, or "
            "export the model from before Quantize."
        )
    if not wrapper.is_trained(layer.inner):
        raise InvalidModel(
            f"`model` '{model.name}' was prepared with Quantize but saw no data, so its ranges are unknown. Train "
            "it for a step or more with fit, then export."
        )
    return {"scheme": "tfmot"}
