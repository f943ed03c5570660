"""`tfbig.migrate`: model files of TFMOT, saved by tf_keras while it trained them, as Keras 3 models."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfbig.compression.tfmot.adoption import adopted_layer
from tfbig.compression.tfmot.toolkit import is_tf_keras
from tfbig.errors import InvalidFile, InvalidModel, TfbigError
from tfbig.models.legacy.graph import Graph
from tfbig.models.legacy.source import Source, decode
from tfbig.models.legacy.weights import assign_all
from tfbig.models.load import load


def migrate(
    path: str | os.PathLike,
    *,
    architecture: Any = None,
    unsafe: bool = False,
    custom_objects: dict[str, Any] | None = None,
) -> keras.Model:
    """Loads a model that tf_keras saved in TFMOT's wrappers as a Keras 3 model with equal outputs.

    A pruned model comes as a plain one, its masks written into its weights as zeros; a clustered one with the
    centroids as its weights. A quantized one keeps its ranges and its rounding: train it on, save it, and
    `tfbig.export` writes the int8 file with these ranges. A file without wrappers is loaded as `tfbig.load` does it.

    Args:
        path: an `.h5`, `.keras` or SavedModel of tf_keras; with `architecture` what `save_weights` wrote of a model
            that `quantize_model` made.
        architecture: the model from before `quantize_model`, of Keras 3 or tf_keras, or its file.
        unsafe: run code that the file holds (`Lambda`). Only for files whose source you trust.
        custom_objects: classes by the name in the file: tf_keras layers and TFMOT `QuantizeConfig`s, with which the
            file is read, and Keras 3 classes, of which the result is made; those that are registered are found without.

    Raises:
        InvalidFile: missing, damaged, weights that do not fit, or holding code while `unsafe` is false.
        InvalidModel: a class that is not known, or layers that were annotated and not yet quantized.
    """
    file, known = Path(path), dict(custom_objects or {})
    try:
        if architecture is not None:
            return _from_weights(file, architecture)
        return _from_model(file, unsafe, known)
    except TfbigError:
        raise
    except (zipfile.BadZipFile, EOFError) as error:
        raise InvalidFile(f"`{file}` is damaged or truncated: {error}. Get it again from its source.") from error
    except Exception as error:  # Whatever a damaged file makes a reader raise, the user gets its name.
        text = " ".join(str(error).split())[:300]
        raise InvalidFile(f"`{file}` cannot be migrated: {type(error).__name__}: {text}") from error


def _from_model(file: Path, unsafe: bool, known: dict[str, Any]) -> keras.Model:
    from tfbig.compression.tfmot import old_files, quantized  # They import TFMOT.

    config = old_files.configuration(file)
    technique = old_files.technique_of(config)
    if technique is None:
        return load(file, unsafe=unsafe, custom_objects=known)
    if technique == "annotated":
        raise InvalidModel(
            f"`{file}` holds layers that were annotated for quantization and not quantized, so there are no ranges. "
            "Load it with tf_keras inside TFMOT's quantize_scope, and give it to tfbig.Quantize('int8').prepare, which "
            "follows the annotations."
        )
    if not unsafe:
        old_files.check_safe(config, file)
    model = old_files.read(file, config, {k: v for k, v in known.items() if not _is_of_keras_3(v)})
    if technique == "quantize":
        return quantized.quantized(model)
    source = Source(file, 2, {k: v for k, v in known.items() if _is_of_keras_3(v)}, unsafe)
    return _as_keras_3(_UNWRAPPED[technique](model), source)


def _from_weights(file: Path, architecture: Any) -> keras.Model:
    from tfbig.compression.techniques.quantize import Quantize
    from tfbig.compression.tfmot import bridge, old_files, quantized, tf_keras_models
    from tfbig.compression.tfmot.wrappers import quantize

    model = load(architecture) if isinstance(architecture, str | os.PathLike) else architecture
    model = model if is_tf_keras(model) else bridge.to_tf_keras(model)
    wrapped = quantize.wrap(Quantize(preserve=False), tf_keras_models.copied(model))
    old_files.load_weights(file, wrapped)
    return quantized.quantized(wrapped)


def _without_masks(model: Any) -> Any:
    from tfbig.compression.tfmot.wrappers import prune

    return prune.stripped(model)


def _without_tables(model: Any) -> Any:
    from tfbig.compression.tfmot.wrappers import cluster

    cluster.recover_zeros(model)
    return cluster.finish(None, model)


_UNWRAPPED: dict[str, Callable[[Any], Any]] = {"prune": _without_masks, "cluster": _without_tables}


def _as_keras_3(model: Any, source: Source) -> keras.Model:
    graph = Graph(source)
    built = graph.make(decode(model.to_json(), source.path))
    weights = {layer.name: layer.trainable_weights + layer.non_trainable_weights for layer in model.layers}
    assign_all(built, graph, {name: [w.numpy() for w in found] for name, found in weights.items()})
    return built


def _is_of_keras_3(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, keras.layers.Layer)


@dataclasses.dataclass(frozen=True)
class Summary:
    """What came over.

    Attributes:
        zero_fraction: of the weights in tensors of rank 2 and more.
        most_values: distinct values in the tensor that has most.
        quantized_layers: how many compute in rounded numbers.
    """

    parameters: int
    zero_fraction: float
    most_values: int
    quantized_layers: int


def summary(model: keras.Model) -> Summary:
    """Counts the zeros, values and quantized layers of a migrated model."""
    layer = adopted_layer(model)
    quantized = [one for one in layer.inner.layers if hasattr(one, "quantize_config")] if layer else []
    tensors = [v.numpy() for v in model.trainable_variables if len(v.shape) > 1]
    total = sum(w.size for w in tensors)
    zeros = sum(int(np.sum(w == 0)) for w in tensors)
    most = max((np.unique(w).size for w in tensors), default=0)
    return Summary(model.count_params(), zeros / total if total else 0.0, int(most), len(quantized))
