"""`Quantize` by TFMOT: layers in wrappers that round; its collaborative schemes keep zeros and clusters."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfbig.compression.tfmot.quantize_configs import quantize_config
from tfbig.compression.tfmot.structure import decode, encode
from tfbig.compression.tfmot.tf_keras_models import (
    check_patterns,
    check_precision,
    copied,
    inside,
    kind_of,
    known_classes,
    layers,
    matches,
    refused,
    rewrapped,
    short_name,
    untouched_options,
)
from tfbig.compression.tfmot.toolkit import toolkit, toolkit_module
from tfbig.errors import InvalidModel, InvariantBroken, TfbigError

_quantization = toolkit().quantization.keras
_activations = toolkit_module("quantization.keras.quantize_aware_activation").QuantizeAwareActivation
_annotated = toolkit_module("quantization.keras.quantize_annotate").QuantizeAnnotate
_wrapper = toolkit_module("quantization.keras.quantize_wrapper").QuantizeWrapper
_layer = toolkit_module("quantization.keras.quantize_layer").QuantizeLayer
_default = toolkit_module("quantization.keras.default_8bit.default_8bit_quantize_scheme").Default8BitQuantizeScheme
_collaborative = "quantization.keras.collab_opts"
_prune_preserve = toolkit_module(f"{_collaborative}.prune_preserve.default_8bit_prune_preserve_quantize_scheme")
_cluster_preserve = toolkit_module(f"{_collaborative}.cluster_preserve.default_8bit_cluster_preserve_quantize_scheme")
_cluster_registry = toolkit_module(f"{_collaborative}.cluster_preserve.cluster_preserve_quantize_registry")
_PRESERVED = (tf_keras.layers.Dense, tf_keras.layers.Conv2D)  # Depthwise convolutions, which are Conv2D, are not.
_STANDALONE = {"relu", "swish", "gelu", "relu6", "linear", "softmax", "sigmoid", "tanh"}
_MOST_CLUSTERS = 256
_FIRST_LOWS = (-6.0, 0.0)  # where TFMOT lets ranges begin: those of inputs at 0
STAYS_WRAPPED = True  # The finished model still rounds.
_CENTROIDS = "cluster_centroids_tf"


class _FreshQuantizers(_cluster_registry.Default8bitClusterPreserveQuantizeRegistry):  # type: ignore[name-defined]
    """TFMOT's registry with a quantizer for each layer: the shared one forgets all zeros at the first layer without."""

    def __init__(self, preserve_sparsity: bool):
        super().__init__(preserve_sparsity)
        self.preserve_sparsity = preserve_sparsity

    def get_quantize_config(self, layer: tf_keras.layers.Layer) -> Any:
        super().__init__(self.preserve_sparsity)
        return super().get_quantize_config(layer)


class _ClusterPreserve(_cluster_preserve.Default8BitClusterPreserveQuantizeScheme):  # type: ignore[name-defined]
    def get_quantize_registry(self) -> Any:
        return _FreshQuantizers(self.preserve_sparsity)


_SCHEMES: dict[str, Callable[[], Any]] = {
    "none": _default,
    "zeros": _prune_preserve.Default8BitPrunePreserveQuantizeScheme,
    "clusters": lambda: _ClusterPreserve(preserve_sparsity=False),
    "both": lambda: _ClusterPreserve(preserve_sparsity=True),
}


def check_options(technique: Any) -> None:
    """Raises `InvalidArgument` for options that TFMOT does not have."""
    untouched_options(technique, ("dtype",), "TFMOT trains for int8 alone.")
    untouched_options(technique, ("momentum",), "TFMOT's moving averages have a momentum of 0.999.")
    untouched_options(technique, ("freeze_after",), "TFMOT's ranges move until the training ends.")


def filled_in(technique: Any, model: tf_keras.Model) -> Any:
    """The technique with what it leaves open decided by the model: whether there is anything to preserve."""
    return dataclasses.replace(technique, preserve=_structure_of(technique, model) != "none")


def wrap(technique: Any, model: tf_keras.Model) -> tf_keras.Model:
    """Quantizes every layer of `model` that is not exempt; layers that were annotated by hand keep their own way."""
    check_precision(model)
    check_patterns("exempt", technique.exempt, model)
    configs = dict(technique.configs or {})
    check_patterns("configs", configs, model)
    scheme = _SCHEMES[_structure_of(technique, model)]()

    def annotate(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        given = [config for pattern, config in configs.items() if matches(pattern, layer)]
        if isinstance(layer, _annotated) or any(matches(pattern, layer) for pattern in technique.exempt):
            return layer
        if not given:
            _check_layer(layer)
        return _quantization.quantize_annotate_layer(layer, quantize_config(given[-1]) if given else None)

    _check_flat(model)
    with known_classes(model, *configs.values()), _quiet():
        try:
            return _quantization.quantize_apply(rewrapped(model, annotate), scheme)
        except TfbigError:
            raise
        except (RuntimeError, ValueError, TypeError) as error:
            raise refused(error, model) from error


def finish(technique: Any, model: tf_keras.Model) -> tf_keras.Model:
    """A copy that still rounds, with the ranges it was trained to and without what kept zeros and clusters."""
    plain = copied(model)
    for old, new in zip(layers(model), layers(plain), strict=True):
        values = {short_name(v.name): v for v in old.weights}
        for target in new.weights:
            target.assign(values[short_name(target.name)])
        for (weight, _, _), (target, _, _) in zip(
            getattr(old, "_weight_vars", ()), getattr(new, "_weight_vars", ()), strict=True
        ):
            target.assign(weight * _mask(old, weight))
    return plain


def is_wrapped(model: tf_keras.Model) -> bool:
    """Whether some layer is in a quantization wrapper."""
    return any(isinstance(layer, _wrapper | _layer) for layer in layers(model))


def is_trained(model: tf_keras.Model) -> bool:
    """Whether the ranges have seen data."""
    lows = [v.numpy() for layer in layers(model) for v in layer.weights if short_name(v.name).endswith("_min")]
    return any(not np.all(np.isin(low, _FIRST_LOWS)) for low in lows)


def overwritten(model: tf_keras.Model) -> list[tf.Variable]:
    """Kernels that the collaborative scheme writes in every step: what trains is beside them."""
    clustered = (layer for layer in layers(model) if any(short_name(v.name) == _CENTROIDS for v in layer.weights))
    return [weight for layer in clustered for weight, _, _ in layer._weight_vars]


def verify(technique: Any, model: tf_keras.Model) -> None:
    """Raises `InvariantBroken` if a layer that is not exempt computes in float."""
    for layer in layers(model):
        if isinstance(layer, _PRESERVED) and not any(matches(pattern, layer) for pattern in technique.exempt):
            raise InvariantBroken(
                f"'{layer.name}' is not quantized, though Quantize promised it. Prepare the model again."
            )


def structure(technique: Any, model: tf_keras.Model, wrapped: tf_keras.Model) -> dict[str, Any]:
    """The zeros and clusters by which the wrappers are made: TFMOT does not keep them in variables."""
    kernels = _preserved_kernels(model) if technique.preserve else {}
    return {name: encode(kernel.numpy()) for name, kernel in kernels.items()}


def restore(model: tf_keras.Model, structure: dict[str, Any]) -> None:
    """Gives a model that is to be wrapped weights of the same structure."""
    kernels = _preserved_kernels(model)
    for name, config in structure.items():
        kernels[name].assign(decode(config))


def _structure_of(technique: Any, model: tf_keras.Model) -> str:
    """What the weights have that quantization must keep: "none", "zeros", "clusters" or "both"."""
    if not technique.preserve:
        return "none"
    kernels = [kernel.numpy() for kernel in _preserved_kernels(model).values()]
    zeros = any(0 < np.count_nonzero(k == 0) < k.size for k in kernels)
    clusters = any(1 < np.unique(k).size <= min(_MOST_CLUSTERS, k.size // 4) for k in kernels)
    return {(False, False): "none", (True, False): "zeros", (False, True): "clusters", (True, True): "both"}[
        zeros, clusters
    ]


def _preserved_kernels(model: tf_keras.Model) -> dict[str, tf.Variable]:
    """The kernels whose zeros and clusters TFMOT can keep, by layer."""
    found = {}
    for layer in layers(model):
        layer = inside(layer)
        if isinstance(layer, _PRESERVED) and not isinstance(layer, tf_keras.layers.DepthwiseConv2D):
            found[layer.name] = layer.kernel
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps back what TFMOT says of every layer without zeros or clusters: it is no news."""
    root, filtered = logging.getLogger(), logging.Filter()
    filtered.filter = lambda record: "does not contain zero weights" not in str(record.msg)  # type: ignore[method-assign]
    root.addFilter(filtered)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="No clustering performed", category=UserWarning)
            yield
    finally:
        root.removeFilter(filtered)


def _check_flat(model: tf_keras.Model) -> None:
    for layer in model.layers:
        if isinstance(layer, tf_keras.Model):
            raise InvalidModel(
                f"`model` '{model.name}' holds the model '{layer.name}' as a layer, which TFMOT does not quantize. "
                "Call its layers one by one, or load the file with tfbig.load and prepare it as a Keras 3 model."
            )


def _check_layer(layer: tf_keras.layers.Layer) -> None:
    """Raises `InvalidModel` for an activation that TFMOT cannot round, and for code."""
    name = getattr(getattr(layer, "activation", None), "__name__", "linear")
    known = _activations._PRE_QUANT_ACTIVATIONS | _activations._POST_QUANT_ACTIVATIONS
    if name not in (_STANDALONE if isinstance(layer, tf_keras.layers.Activation) else known):
        raise InvalidModel(
            f"TFMOT does not quantize the activation '{name}' of layer '{layer.name}' ({kind_of(layer)}). Leave the "
            f"layer float with exempt=['{layer.name}'], or use engine='native'."
        )
    if isinstance(layer, tf_keras.layers.Lambda):
        raise InvalidModel(
            f"TFMOT does not quantize layer '{layer.name}', a Lambda. Leave it float with exempt=['{layer.name}']."
        )


def _mask(wrapper: Any, weight: tf.Variable) -> Any:
    """0 where the collaborative scheme holds a zero, else 1."""
    held = [extra for w, _, extra in wrapper._weight_vars if w is weight and isinstance(extra, dict)]
    return held[0].get("sparsity_mask", 1.0) if held else 1.0
