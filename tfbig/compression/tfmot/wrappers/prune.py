"""`Prune` by TFMOT: each pruned layer in a wrapper that keeps masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras

from tfbig.compression.tfmot.tf_keras_models import (
    check_patterns,
    check_precision,
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

_sparsity = toolkit().sparsity.keras
_registry = toolkit_module("sparsity.keras.prune_registry").PruneRegistry
_impl = toolkit_module("sparsity.keras.pruning_impl")
_wrapper = toolkit_module("sparsity.keras.pruning_wrapper")
STAYS_WRAPPED = False
_ONE_SHOT = ("schedule", "initial_sparsity", "begin", "end", "power", "frequency")


class ShareOfTraining(_sparsity.PruningSchedule):  # type: ignore[name-defined]
    """A schedule whose steps are not known yet: they are shares of a training whose length `fit` knows.

    The callback replaces it by TFMOT's own schedule when the training begins.
    """

    def __init__(self, technique: Any, target: float, calls: int):
        self.technique, self.target, self.calls = technique, target, calls

    def __call__(self, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        never = tf.debugging.Assert(
            False,
            [
                "`begin` and `end` are shares of the training, whose length is not known: give Prune steps (ints), "
                "or pass callbacks=technique.callbacks() to fit."
            ],
        )
        with tf.control_dependencies([never] if never is not None else []):
            return tf.constant(False), tf.constant(0.0)

    def get_config(self) -> dict[str, Any]:
        return {"class_name": "ShareOfTraining", "config": {"target": self.target}}

    def resolved(self, total: int) -> Any:
        """TFMOT's schedule for a training of `total` steps."""
        steps = {
            name: when if isinstance(when := getattr(self.technique, name), int) else int(when * total)
            for name in ("begin", "end")
        }
        return schedule_of(dataclasses.replace(self.technique, **steps), self.target, self.calls)


def check_options(technique: Any) -> None:
    """Raises `InvalidArgument` for options that TFMOT does not have."""
    untouched_options(technique, ("scope",), "TFMOT prunes every tensor by itself.")
    if technique.pattern is not None:
        untouched_options(technique, _ONE_SHOT, "TFMOT applies `pattern` once, in the first step.")


def filled_in(technique: Any, model: tf_keras.Model) -> Any:
    """The technique as it is: it leaves nothing open."""
    return technique


def wrap(technique: Any, model: tf_keras.Model) -> tf_keras.Model:
    """Puts TFMOT's wrapper around every layer of `model` that it can prune and that is not left alone."""
    check_precision(model)
    targets = {layer.name: target for layer, target in _chosen(technique, model)}

    def step(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        if layer.name not in targets:
            return layer
        parameters = _parameters(technique, targets[layer.name], len(layer.inbound_nodes))
        return _sparsity.prune_low_magnitude(layer, **parameters)

    try:
        wrapped = rewrapped(model, step)
    except ValueError as error:
        raise refused(error, model) from error
    for wrapper in wrappers(wrapped):
        wrapper.pruning_step.assign(0)
    return wrapped


def finish(technique: Any, model: tf_keras.Model) -> tf_keras.Model:
    """A plain copy of a wrapped model, every tensor pruned to its target, whatever of the schedule was run."""
    return _unwrapped(model, _final_mask)


def stripped(model: tf_keras.Model) -> tf_keras.Model:
    """A plain copy of a wrapped model with the zeros of the masks as they are."""
    return _unwrapped(model, lambda wrapper, weight, mask: mask)


def _unwrapped(model: tf_keras.Model, mask_of: Callable[[Any, tf.Variable, tf.Variable], tf.Tensor]) -> tf_keras.Model:
    new: dict[int, tf_keras.layers.Layer] = {}

    def step(layer: tf_keras.layers.Layer) -> tf_keras.layers.Layer:
        new[id(layer)] = fresh(inside(layer))
        return new[id(layer)]

    plain = copied(model, step)
    for layer in layers(model):
        for target, source in zip(new[id(layer)].weights, inside(layer).weights, strict=True):
            target.assign(source)
        if isinstance(layer, _wrapper.PruneLowMagnitude):
            position = {id(v): i for i, v in enumerate(layer.layer.weights)}
            for weight, mask, _ in layer.pruning_vars:
                kept = mask_of(layer, weight, mask) != 0
                # Not a product: that makes zeros of two signs, which gzip stores in a tenth more bytes.
                new[id(layer)].weights[position[id(weight)]].assign(tf.where(kept, weight, 0.0))
    return plain


def is_wrapped(model: tf_keras.Model) -> bool:
    """Whether some layer is in a pruning wrapper."""
    return any(wrappers(model))


def wrappers(model: tf_keras.Model) -> Iterator[Any]:
    """TFMOT's pruning wrappers in a model."""
    return (layer for layer in layers(model) if isinstance(layer, _wrapper.PruneLowMagnitude))


def verify(technique: Any, model: tf_keras.Model) -> None:
    """Raises `InvariantBroken` unless each tensor that TFMOT prunes has the asked share of zeros, to one unit."""
    unit = int(np.prod(technique.block_size))
    for layer in layers(model):
        target = _target(technique, inside(layer))
        if target is None:
            continue
        for weight in _prunable(layer):
            zeros, size = int(np.sum(weight.numpy() == 0)), int(np.prod(weight.shape))
            if size >= technique.min_size and zeros < target * size - unit:
                raise InvariantBroken(
                    f"'{weight.name}' has {zeros / size:.2%} zeros, but Prune promised {target:.2%}. Something "
                    "wrote into the weights after Prune; quantize with preserve=True, or train later stages with "
                    "tfbig.Preserve()."
                )


def structure(technique: Any, model: tf_keras.Model, wrapped: tf_keras.Model) -> dict[str, Any]:
    """Nothing: the masks are variables."""
    return {}


def restore(model: tf_keras.Model, structure: dict[str, Any]) -> None:
    """Nothing: the wrappers do not depend on the weights."""


def overwritten(model: tf_keras.Model) -> list[tf.Variable]:
    """No variables: what TFMOT calls trainable is trained."""
    return []


def takes(kind: str, attribute: str) -> bool:
    """Whether TFMOT prunes the attribute of a layer of this kind; kinds are class names, the same in Keras 3."""
    known = {cls.__name__: attributes for cls, attributes in _registry._LAYERS_WEIGHTS_MAP.items()}
    cells = {cls.__name__: attributes for cls, attributes in _registry._RNN_CELLS_WEIGHTS_MAP.items()}
    return attribute in {**known, **cells}.get(kind, [])


def schedule_of(technique: Any, target: float, calls: int = 1) -> Any:
    """The technique's schedule as TFMOT's own.

    TFMOT counts the calls of a layer, from 1: our step 0 is its step 1, and a layer that the model uses twice takes two
    of its steps in one of training.

    Args:
        target: the final sparsity.
        calls: how often the model uses the layer.
    """
    if technique.pattern is not None:
        return _sparsity.ConstantSparsity(target, 1, 1, frequency=1)
    if any(isinstance(when, float) for when in (technique.begin, technique.end)):
        return ShareOfTraining(technique, target, calls)
    begin, end, frequency = _reaching_the_end(technique.begin, technique.end, technique.frequency)
    steps = {"begin_step": begin * calls + 1, "end_step": end * calls + 1, "frequency": frequency * calls}
    if technique.schedule == "constant" or not technique.power or begin == end:
        return _sparsity.ConstantSparsity(target, **steps)
    initial = technique.initial_sparsity * target / technique.sparsity
    return _sparsity.PolynomialDecay(initial, target, power=technique.power, **steps)


def _reaching_the_end(begin: int, end: int, frequency: int) -> tuple[int, int, int]:
    """The steps of a schedule whose last renewal falls on its end: only there TFMOT reaches the final sparsity."""
    if 0 < end - begin < frequency:
        return begin, end, end - begin
    return begin, end - (end - begin) % frequency, frequency


def _parameters(technique: Any, target: float, calls: int) -> dict[str, Any]:
    return {
        "pruning_schedule": schedule_of(technique, target, calls),
        "block_size": technique.block_size,
        "sparsity_m_by_n": _zeros_of(technique.pattern),
    }


def _zeros_of(pattern: str | None) -> tuple[int, int] | None:
    """TFMOT's pair for "N:M": it counts the zeros in every M, not what is kept."""
    if pattern is None:
        return None
    kept, size = (int(part) for part in pattern.split(":"))
    return size - kept, size


def _chosen(technique: Any, model: tf_keras.Model) -> list[tuple[tf_keras.layers.Layer, float]]:
    """The layers to prune, and the share of zeros for each."""
    check_patterns("layers", technique.layers or {}, model)
    chosen = []
    for layer in layers(model):
        target, weights = _target(technique, layer), _prunable(layer)
        if target is not None and any(int(np.prod(w.shape)) >= technique.min_size for w in weights):
            _check_layout(technique, layer, weights)
            chosen.append((layer, target))
    if not chosen:
        raise InvalidModel(
            f"`model` '{model.name}' has no layer that TFMOT prunes: it takes Dense, convolutions but depthwise "
            f"ones, Embedding, recurrent layers and attention, with at least {technique.min_size} weights. Use "
            "engine='native', or change `layers`."
        )
    return chosen


def _target(technique: Any, layer: tf_keras.layers.Layer) -> float | None:
    asked = [value for pattern, value in (technique.layers or {}).items() if matches(pattern, layer)]
    return asked[-1] if asked else technique.sparsity


def _prunable(layer: tf_keras.layers.Layer) -> list[tf.Variable]:
    """The weights of a layer, or of the layer inside a wrapper, that TFMOT prunes."""
    quantized, layer = quantized_weights(layer), inside(layer)
    if quantized is not None:
        return [w for w in quantized if takes(type(layer).__name__, "kernel")]
    if hasattr(layer, "get_prunable_weights"):
        return list(layer.get_prunable_weights())
    if type(layer).__name__ == "Bidirectional" or not _registry.supports(layer):
        return []
    weights = list(_registry.make_prunable(layer).get_prunable_weights())
    del layer.get_prunable_weights  # TFMOT puts it there again when it wraps the layer.
    return weights


def _check_layout(technique: Any, layer: tf_keras.layers.Layer, weights: list[tf.Variable]) -> None:
    leave_out = f"Leave it out with layers={{'{layer.name}': None}}, or use engine='native'."
    for weight in weights:
        if technique.block_size != (1, 1) and len(weight.shape) != 2:
            raise InvalidArgument(
                f"`block_size` {technique.block_size} needs tensors of rank 2 in TFMOT, but '{weight.name}' has rank "
                f"{len(weight.shape)}. {leave_out}"
            )
        if technique.pattern is None:
            continue
        if type(layer).__name__ not in ("Dense", "Conv2D", "SeparableConv2D"):
            raise InvalidArgument(
                f"`pattern` is for Dense and Conv2D in TFMOT, but '{layer.name}' is a {type(layer).__name__}. "
                f"{leave_out}"
            )
        size = int(technique.pattern.split(":")[1])
        if weight.shape[-2] % size:
            raise InvalidArgument(
                f"`pattern` is {technique.pattern}, but '{weight.name}' has {weight.shape[-2]} input channels, "
                f"which {size} does not divide. {leave_out}"
            )


def _final_mask(wrapper: Any, weight: tf.Variable, mask: tf.Variable) -> tf.Tensor:
    """The zeros of the wrapper's mask, and those still missing to its target."""
    final = _impl.Pruning(
        training_step_fn=lambda: 1,
        pruning_vars=wrapper.pruning_vars,
        pruning_schedule=_sparsity.ConstantSparsity(_target_of(wrapper), 0),
        block_size=wrapper.block_size,
        block_pooling_type=wrapper.block_pooling_type,
        sparsity_m_by_n=wrapper.sparsity_m_by_n,
    )
    return mask * final._maybe_update_block_mask(weight * mask)[1]


def _target_of(wrapper: Any) -> float:
    schedule = wrapper.pruning_schedule
    names = ("target", "final_sparsity", "target_sparsity")
    return next(getattr(schedule, name) for name in names if hasattr(schedule, name))
