"""`Cluster` by TFMOT: each clustered layer in a wrapper that looks its weights up in a table of centroids."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfbig.compression.tfmot.tf_keras_models import (
    check_patterns,
    copied,
    fresh,
    inside,
    layers,
    matches,
    quantized_weights,
    refused,
    rewrapped,
    untouched_options,
)
from tfbig.compression.tfmot.toolkit import toolkit, toolkit_module
from tfbig.errors import InvalidArgument, InvalidModel, InvariantBroken

_clustering = toolkit().clustering.keras
_experimental = toolkit_module("clustering.keras.experimental.cluster")
_registry = toolkit_module("clustering.keras.clustering_registry").ClusteringRegistry
_wrapper = toolkit_module("clustering.keras.cluster_wrapper")
_INITIALIZATIONS = {"kmeans++": "KMEANS_PLUS_PLUS", "density": "DENSITY_BASED", "linear": "LINEAR", "random": "RANDOM"}
STAYS_WRAPPED = False


def check_options(technique: Any) -> None:
    """Raises `InvalidArgument` for options that TFMOT does not have."""
    untouched_options(
        technique, ("seed",), "TFMOT's kmeans++ has a fixed seed, and its random follows tf.random.set_seed."
    )
    untouched_options(technique, ("entropy_penalty",), "TFMOT's weights go to the nearest centroid.")
    if technique.preserve_sparsity and technique.clusters < 3:
        raise InvalidArgument(
            f"`clusters` must be at least 3 in TFMOT when zeros are kept, received {technique.clusters}: one is "
            "zero, and there are positive and negative weights. Give clusters=3, or use engine='native'."
        )


def filled_in(technique: Any, model: tf_keras.Model) -> Any:
    """The technique with what it leaves open decided by the model: whether there are zeros to keep."""
    if technique.preserve_sparsity is not None:
        return technique
    filled = dataclasses.replace(technique, preserve_sparsity=_has_zeros(technique, model))
    check_options(filled)
    return filled


def wrap(technique: Any, model: tf_keras.Model) -> tf_keras.Model:
    """Puts TFMOT's wrapper around every layer of `model` that it can cluster and that is not left alone."""
    chosen = {layer.name for layer in _chosen(technique, model)}
    initialization = _clustering.CentroidInitialization[_INITIALIZATIONS[technique.initialization]]

    def step(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if layer.name not in chosen:
            return layer
        return _experimental.cluster_weights(
            layer,
            technique.clusters,
            initialization,
            preserve_sparsity=bool(technique.preserve_sparsity),
            **({} if _is_special(layer) else {"cluster_per_channel": technique.per_channel}),
        )

    try:
        return rewrapped(model, step)
    except ValueError as error:
        raise refused(error, model) from error


def finish(technique: Any, model: tf_keras.Model) -> tf_keras.Model:
    """A plain copy of a wrapped model, its weights replaced by their centroids."""
    new: dict[int, tf_keras.layers.Layer] = {}

    def step(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        new[id(layer)] = fresh(inside(layer))
        return new[id(layer)]

    plain = copied(model, step)
    for layer in layers(model):
        values = _clustered(layer) if isinstance(layer, _wrapper.ClusterWeights) else layer.weights
        for target, source in zip(new[id(layer)].weights, values, strict=True):
            target.assign(source)
    return plain


def recover_zeros(model: tf_keras.Model) -> None:
    """Finds the zeros that wrappers kept, which TFMOT saves nowhere, by the centroid that is nearest to zero."""
    for wrapper in wrappers(model):
        for name in wrapper.cluster_centroids if wrapper.preserve_sparsity else ():
            zero = tf.argmin(tf.abs(wrapper.cluster_centroids[name]), axis=-1)
            wrapper.zero_idx[name] = zero
            wrapper.sparsity_masks[name] = tf.cast(wrapper.pulling_indices[name] != zero, tf.float32)


def is_wrapped(model: tf_keras.Model) -> bool:
    """Whether some layer is in a clustering wrapper."""
    return any(wrappers(model))


def wrappers(model: tf_keras.Model) -> Iterator[Any]:
    """TFMOT's clustering wrappers in a model."""
    return (layer for layer in layers(model) if isinstance(layer, _wrapper.ClusterWeights))


def verify(technique: Any, model: tf_keras.Model) -> None:
    """Raises `InvariantBroken` if a tensor that TFMOT clusters has more than `clusters` values.

    Cluster-preserving quantization gives each channel of a Conv2D its own values: there each channel is counted.
    """
    for layer in layers(model):
        if any(matches(pattern, inside(layer)) for pattern in technique.layers or {}):
            continue
        by_channel = technique.per_channel or quantized_weights(layer) is not None
        per_channel = by_channel and isinstance(inside(layer), tf_keras.layers.Conv2D)
        for weight in _clusterable(layer):
            rows = np.moveaxis(weight.numpy(), -1, 0) if per_channel else weight.numpy()[None]
            most = max(np.unique(row).size for row in rows)
            if weight.numpy().size >= technique.min_size and most > technique.clusters:
                raise InvariantBroken(
                    f"'{weight.name}' has {most} distinct values, but Cluster promised at most "
                    f"{technique.clusters}. Something wrote into the weights after Cluster; quantize with "
                    "preserve=True, or train later stages with tfbig.Preserve()."
                )


def structure(technique: Any, model: tf_keras.Model, wrapped: tf_keras.Model) -> dict[str, Any]:
    """Nothing; but the masks of zeros, which TFMOT keeps as constants, become variables that are saved."""
    for wrapper in wrappers(wrapped):
        for state in (wrapper.sparsity_masks, wrapper.zero_idx):
            for name, value in state.items():
                state[name] = tf.Variable(value, trainable=False, name=f"kept_{name}".replace("/", "_"))
                wrapper._non_trainable_weights.append(state[name])
    return {}


def restore(model: tf_keras.Model, structure: dict[str, Any]) -> None:
    """Gives tensors that are all zero some values: TFMOT finds no centroids for them."""
    for layer in layers(model):
        for weight in _clusterable(layer):
            if not np.any(weight.numpy()):
                weight.assign(tf.random.normal(weight.shape))


def overwritten(model: tf_keras.Model) -> list[tf.Variable]:
    """No variables: what TFMOT calls trainable is trained."""
    return []


def takes(kind: str, attribute: str) -> bool:
    """Whether TFMOT clusters the attribute of a layer of this kind; kinds are class names, the same in Keras 3."""
    known = {cls.__name__: attributes for cls, attributes in _registry._LAYERS_WEIGHTS_MAP.items()}
    return attribute in known.get(kind, []) or (
        kind in ("LSTMCell", "GRUCell", "SimpleRNNCell", "Bidirectional")
        and attribute in ("kernel", "recurrent_kernel")
    )


def _has_zeros(technique: Any, model: tf_keras.Model) -> bool:
    """Whether the tensors to cluster have zeros, which clustering then keeps."""
    kernels = [w.numpy() for layer in _chosen(technique, model) for w in _clusterable(layer)]
    return any(0 < np.count_nonzero(kernel == 0) < kernel.size for kernel in kernels)


def _chosen(technique: Any, model: tf_keras.Model) -> list[tf_keras.layers.Layer]:
    overrides = technique.layers or {}
    check_patterns("layers", overrides, model)
    chosen = []
    for layer in layers(model):
        sizes = [int(np.prod(w.shape)) for w in _clusterable(layer)]
        large = any(size >= technique.min_size and size > technique.clusters for size in sizes)
        if large and not any(matches(pattern, layer) for pattern in overrides):
            chosen.append(layer)
    if not chosen:
        raise InvalidModel(
            f"`model` '{model.name}' has no layer that TFMOT clusters: it takes Dense, convolutions but depthwise "
            f"ones, Embedding, recurrent layers and attention, with at least {technique.min_size} weights. Use "
            "engine='native', or change `layers`."
        )
    return chosen


def _clusterable(layer: tf_keras.layers.Layer) -> list[tf.Variable]:
    """The weights of a layer, or of the layer inside a wrapper, that TFMOT clusters."""
    quantized, layer = quantized_weights(layer), inside(layer)
    if quantized is not None:
        return [w for w in quantized if takes(type(layer).__name__, "kernel")]
    if hasattr(layer, "get_clusterable_weights"):
        return [weight for _, weight in layer.get_clusterable_weights()]
    if not layer.weights or not _registry.supports(layer):
        return []
    found = _registry.make_clusterable(layer).get_clusterable_weights()
    del layer.get_clusterable_weights  # TFMOT puts it there again when it wraps the layer.
    return [weight for _, weight in found]


def _is_special(layer: tf_keras.layers.Layer) -> bool:
    """Layers whose wrappers in TFMOT do not know `cluster_per_channel`."""
    kinds = (tf_keras.layers.RNN, tf_keras.layers.Bidirectional, tf_keras.layers.MultiHeadAttention)
    return isinstance(layer, kinds)


def _clustered(wrapper: Any) -> list[tf.Tensor]:
    """The weights of a wrapped layer in their usual order, kernels as their centroids."""
    originals = {id(w) for w in wrapper.original_clusterable_weights.values()}
    values = [w for w in wrapper.layer.weights if id(w) not in originals]
    for position, name in wrapper.position_original_weights.items():
        values.insert(position, _looked_up(wrapper, name))
    return values


def _looked_up(wrapper: Any, name: str) -> tf.Tensor:
    weight = tf.convert_to_tensor(wrapper.original_clusterable_weights[name])
    centroids = wrapper.cluster_centroids[name].numpy()
    if wrapper.preserve_sparsity:
        weight = weight * wrapper.sparsity_masks[name]
        np.put_along_axis(centroids, np.expand_dims(np.asarray(wrapper.zero_idx[name]), -1), 0.0, axis=-1)
    table = wrapper.clustering_algorithms[name]
    still = type(table)(tf.Variable(centroids), table.cluster_gradient_aggregation, table.data_format)
    return still.get_clustered_weight(still.get_pulling_indices(weight), weight)
