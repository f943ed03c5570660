"""tf_keras models with TFMOT's wrappers, read from the files that tf_keras wrote; no code in them is run."""

from __future__ import annotations

import functools
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras.src.saving import saving_lib  # The reader of this layout has no public name.

from tfbig.compression.tfmot.tf_keras_models import layers, quantized_weights, short_name
from tfbig.compression.tfmot.toolkit import toolkit
from tfbig.errors import InvalidFile, InvalidModel, TfbigError
from tfbig.models.legacy import archive as archives
from tfbig.models.legacy import h5_file, saved_model, tf_ops
from tfbig.models.load import kind_of_file
from tfbig.models.safety import describe, objects, refuse_code, refuse_zip_bomb

# The wrappers by technique.
_WRAPPERS = {
    "prune": ("PruneLowMagnitude",),
    "cluster": ("ClusterWeights", "ClusterWeightsRNN", "ClusterWeightsBidirectional", "ClusterWeightsMHA"),
    "quantize": ("QuantizeLayer", "QuantizeWrapper", "QuantizeWrapperV2"),
    "annotated": ("QuantizeAnnotate",),
}
# Layers that call TensorFlow by a name, or by a graph, that the file holds.
_CALLS = ("TensorFlowOpLayer", "ClassMethod", "InstanceMethod", "InstanceProperty")


def configuration(path: Path) -> dict[str, Any]:
    """The configuration in a model file of tf_keras, of any kind; nothing for an unpacked archive of Keras 3.

    Raises:
        InvalidFile: not a whole model.
    """
    kind = kind_of_file(path)
    if kind == "folder":
        return {}
    if kind == "saved_model":
        return saved_model.configuration(path)
    if kind == "h5":
        with h5_file.opened(path) as file:
            return h5_file.configuration(file, path)
    with zipfile.ZipFile(path) as archive:
        refuse_zip_bomb(archive, path)
        return archives.configuration(archive, path)[0]


def technique_of(config: Any) -> str | None:
    """The name of the technique whose wrappers a configuration holds, "annotated", or None without any."""
    found = {entry["class_name"] for entry in objects(config)}
    return next((name for name, classes in _WRAPPERS.items() if found & set(classes)), None)


def check_safe(config: dict[str, Any], path: Path) -> None:
    """Raises `InvalidFile` or `InvalidModel` for layers that hold code, or name functions that are not known here."""
    refuse_code(config, path)
    for entry in objects(config):
        if entry["class_name"] == "TFOpLambda":
            tf_ops.known_symbol(entry, path)
        if entry["class_name"] in _CALLS:
            raise InvalidFile(
                f"`{path}` holds {describe(entry)}, which calls whatever the file names. If you trust where the file "
                "comes from, load it with unsafe=True."
            )


def read(path: Path, config: dict[str, Any], custom_objects: Mapping[str, Any]) -> tf_keras.Model:
    """The tf_keras model of a file, with its weights, and wrapped as it was saved.

    Args:
        config: its configuration.
        custom_objects: tf_keras classes, and TFMOT `QuantizeConfig`s, by their names in the file.

    Raises:
        InvalidFile: weights that do not fit the configuration.
        InvalidModel: a class that is not known.
    """
    model = from_configuration(config, path, custom_objects)
    load_weights(path, model)
    return model


def from_configuration(config: dict[str, Any], path: Path, custom_objects: Mapping[str, Any]) -> tf_keras.Model:
    """A new tf_keras model with TFMOT's wrappers.

    Raises:
        InvalidModel: a class that is not known.
    """
    tfmot = toolkit()
    scopes = (tfmot.sparsity.keras.prune_scope, tfmot.clustering.keras.cluster_scope)
    with tfmot.quantization.keras.quantize_scope(dict(custom_objects)), scopes[0](), scopes[1]():
        try:
            return tf_keras.models.model_from_config(_prepared(config))
        except (ValueError, TypeError, KeyError) as error:
            stranger = next((describe(entry) for entry in objects(config) if not _is_known(entry)), None)
            reason = f"which has no class for {stranger}" if stranger else " ".join(str(error).split())[:300]
            raise InvalidModel(
                f"`{path}` cannot be rebuilt in tf_keras, {reason.rstrip('.')}. Pass classes of your own, such as a "
                "QuantizeConfig, in `custom_objects`."
            ) from error


def _is_known(entry: dict[str, Any]) -> bool:
    """Whether tf_keras, TFMOT or the user has a class of that name."""
    name = str(entry.get("registered_name") or entry["class_name"])
    places = (tf_keras, tf_keras.layers, tf_keras.initializers, tf_keras.regularizers, tf_keras.constraints)
    known = tf_keras.saving.get_registered_object(name) is not None or any(hasattr(place, name) for place in places)
    return known or name in ("Functional", "ConstantSparsity", "TFOpLambda", "SlicingOpLambda")


def load_weights(path: Path, model: tf_keras.Model) -> None:
    """Gives a wrapped model the weights of a file of any kind, also of one that holds nothing else.

    Raises:
        InvalidFile: they do not fit.
    """
    try:
        if Path(f"{path}.index").exists():  # What `save_weights` wrote: several files that begin with this name.
            _load_checkpoint(path, model)
        else:
            _LOADERS[kind_of_file(path)](path, model)
    except TfbigError:
        raise
    except Exception as error:  # What tf_keras raises for weights that do not fit has no one type.
        raise InvalidFile(
            f"`{path}`: the weights do not fit the model: {' '.join(str(error).split())[:300]} Save the whole model "
            "with tf_keras, as .h5 or as a SavedModel folder."
        ) from error


def _prepared(config: Any) -> Any:
    """Without what tf_keras would trip over: shapes it would build twice by, and schedules, which no longer matter."""
    if isinstance(config, list):
        return [_prepared(one) for one in config]
    if not isinstance(config, dict):
        return config
    kept = {key: _prepared(value) for key, value in config.items() if key not in ("build_config", "compile_config")}
    if "pruning_schedule" in kept:
        constant = toolkit().sparsity.keras.ConstantSparsity(0.5, 0)
        kept["pruning_schedule"] = constant.get_config()
    return kept


def _load_checkpoint(prefix: Path, model: tf_keras.Model) -> None:
    status = model.load_weights(str(prefix))
    status.assert_existing_objects_matched()
    status.expect_partial()


def _load_saved_model(path: Path, model: tf_keras.Model) -> None:
    _load_checkpoint(path / "variables" / "variables", model)


def _load_archive(path: Path, model: tf_keras.Model) -> None:
    with zipfile.ZipFile(path) as archive:
        _load_store(archives.weights_file(archive, path), model)


def _load_store(content: Any, model: tf_keras.Model) -> None:
    store = saving_lib.H5IOStore(content, mode="r")
    for layer in layers(model):
        if quantized_weights(layer) is not None:
            layer.load_own_variables = functools.partial(_load_wrapper, layer)
    try:
        saving_lib._load_state(model, weights_store=store, assets_store=None, inner_path="", visited_trackables=set())
    finally:
        store.close()


def _load_wrapper(wrapper: Any, store: Mapping[str, np.ndarray]) -> None:
    """Weights first, then what is not trained; in between the file may have some of the weights twice."""
    values = [np.asarray(store[key]) for key in sorted(store.keys(), key=int)]
    trained, others = wrapper._trainable_weights, wrapper._non_trainable_weights
    chosen = values[: len(trained)] + values[len(values) - len(others) :]
    _assign_all(wrapper, [*trained, *others], chosen)


def _load_h5(path: Path, model: tf_keras.Model) -> None:
    with h5_file.opened(path) as file:
        group = h5_file.subgroup(file, "model_weights", path) if "model_weights" in file else file
        if "layer_names" not in group.attrs and "layer_names0" not in group.attrs:
            archives.check_arrays(path, path)
            _load_store(path, model)
            return
        saved = h5_file.arrays_by_layer(group, path)
    filled = [arrays for arrays in saved.values() if arrays]
    targets = [layer for layer in model.layers if layer.weights]
    if len(filled) != len(targets):
        raise ValueError(f"The file has them for {len(filled)} layers, the model has {len(targets)} with weights.")
    for layer, arrays in zip(targets, filled, strict=True):
        _assign(layer, arrays)


def _assign(layer: tf_keras.layers.Layer, arrays: dict[str, np.ndarray]) -> None:
    variables = layer.trainable_weights + layer.non_trainable_weights
    values = list(arrays.values())
    if quantized_weights(layer) is not None:  # Those that kept clusters have variables for it, which are over now.
        by_name = {short_name(name): array for name, array in arrays.items()}
        values = [by_name[short_name(v.name)] for v in variables if short_name(v.name) in by_name]
    _assign_all(layer, variables, values)


def _assign_all(layer: tf_keras.layers.Layer, variables: list[tf.Variable], values: list[np.ndarray]) -> None:
    if [tuple(v.shape) for v in variables] != [v.shape for v in values]:
        raise ValueError(
            f"Layer '{layer.name}' expects weights of shapes {[tuple(v.shape) for v in variables]}, the file has "
            f"{[v.shape for v in values]}."
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


_LOADERS = {"h5": _load_h5, "archive": _load_archive, "saved_model": _load_saved_model}
