"""Re-runs a model on symbolic tensors, step by step, opening what holds steps inside."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from keras.src.backend import get_keras_mask, set_keras_mask
from keras.src.models.functional import Functional

from tfbig.compression.native.openings import FUSED, opening
from tfbig.compression.native.steps import Graph, sort, takes_training
from tfbig.compression.native.tracing import Trace, Untraceable, masks_for, trace

# Layers whose `activation` is taken off and made a step of its own, because LiteRT computes most of them as ops.
_ACTIVATED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)
_SCORED = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)
_ATTENTION = (*_SCORED, keras.layers.Attention, keras.layers.AdditiveAttention)


class Opener:
    """Remembers what it found out about layers and tensors while it re-ran a model."""

    def __init__(self) -> None:
        self.activations: dict[int, tuple[Callable, Any]] = {}  # taken off, by layer: some are used more than once
        self.weights: dict[int, tuple[keras.KerasTensor, keras.Variable]] = {}  # by variable
        self.modes: dict[int, tuple[Any, bool]] = {}  # by output tensor of a step whose training mode is fixed
        self.whole: dict[int, str] = {}  # layers that could not be opened, and why

    def graph(self, inputs: Sequence[Any], outputs: Any) -> Graph:
        """The flat graph between the inputs and what a re-run on them gave."""
        modes = {tensor: mode for tensor, (_, mode) in self.modes.items()}
        flat = sort(inputs, outputs, list(self.weights.values()), modes)
        _name_apart([step.operation for step in flat.steps])
        return dataclasses.replace(flat, whole=self.whole)

    def rerun(self, graph: Graph, inputs: Sequence[Any], mode: bool | None = None) -> Any:
        """Runs a Functional model's graph on other symbols."""
        return graph.run(inputs, lambda step, args, kwargs: self.open(step.operation, args, kwargs, mode))

    def follow(self, traced: Trace, inputs: Sequence[Any]) -> Any:
        """Runs a traced call on other symbols; its weights become symbols of the whole."""
        modes = {id(step): mode for step, mode in zip(traced.graph.steps, traced.modes, strict=True)}
        values = [*inputs, *(self.symbol(variable) for variable in traced.graph.weights.values())]
        return traced.graph.with_weights_as_inputs().run(
            values, lambda step, args, kwargs: self.open(step.operation, args, kwargs, modes[id(step)])
        )

    def symbol(self, variable: keras.Variable) -> keras.KerasTensor:
        """The one symbol that stands for a variable."""
        symbol = keras.KerasTensor(variable.shape, variable.dtype, name=variable.name)
        return self.weights.setdefault(id(variable), (symbol, variable))[0]

    def open(self, operation: Any, args: tuple, kwargs: dict[str, Any], mode: bool | None = None) -> Any:
        """Calls an operation on symbols, by its parts where it has parts.

        Args:
            mode: the training mode that the model's code fixes for it.
        """
        kwargs = {name: value for name, value in kwargs.items() if name != "training"}
        outputs = self.opened(operation, args, kwargs, mode)
        _hand_masks_on(operation, args, kwargs, outputs)
        return outputs

    def opened(self, operation: Any, args: tuple, kwargs: dict[str, Any], mode: bool | None) -> Any:
        functional = functional_of(operation)
        if isinstance(functional, Functional):
            given = tree.flatten(args[0] if args else kwargs["inputs"])
            return self.rerun(sort(functional.inputs, functional._outputs_struct), given, mode)
        if isinstance(operation, _ACTIVATED):
            return self.open_activated(operation, args, kwargs)
        if (written_out := opening(operation, kwargs)) is not None:
            return written_out(*_cast_as_called(operation, args))
        if isinstance(operation, keras.layers.TimeDistributed) and _keeps_steps_apart(operation, args[0]):
            return self.open_per_step(operation.layer, args[0], mode)
        if isinstance(operation, (*_ATTENTION, keras.Model)) or _is_custom(operation):
            try:
                return self.open_traced(operation, args, kwargs, mode)
            except Untraceable as error:
                self.whole[id(operation)] = str(error)
        # As arguments, masks are values of the graph; at tensors, operations between layers would lose them.
        outputs = operation(*args, **{**kwargs, **masks_for(operation, args, kwargs)})
        if mode is not None and takes_training(operation):
            self.modes.update((id(y), (y, mode)) for y in tree.flatten(outputs))
        return outputs

    def open_activated(self, layer: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
        if id(layer) not in self.activations and layer.activation is not keras.activations.linear:
            # A penalty on the layer's output is one on what comes out of the activation.
            self.activations[id(layer)] = layer.activation, layer.activity_regularizer
            layer.activation, layer.activity_regularizer = keras.activations.linear, None
        written_out = opening(layer, kwargs)
        outputs = written_out(*_cast_as_called(layer, args)) if written_out else layer(*args, **kwargs)
        if id(layer) not in self.activations:
            return outputs
        activation, penalty = self.activations[id(layer)]
        step = keras.layers.Activation(activation, activity_regularizer=penalty, dtype=layer.dtype_policy)
        return self.open(step, (outputs,), {})

    def open_per_step(self, layer: Any, x: Any, mode: bool | None) -> Any:
        y = self.open(layer, (ops.reshape(x, (-1, *x.shape[2:])),), {}, mode)
        return ops.reshape(y, (-1, x.shape[1], *y.shape[1:]))

    def open_traced(self, operation: Any, args: tuple, kwargs: dict[str, Any], mode: bool | None) -> Any:
        asked = kwargs.get("return_attention_scores")
        if isinstance(operation, _SCORED):
            # Without the scores, or with a causal mask, it would be one fused op.
            object.__setattr__(operation._softmax, FUSED, not asked and not operation.dropout)
            kwargs = {**kwargs, **_explicit_mask(args, kwargs), "return_attention_scores": True}
        args, kwargs = _cast_as_called(operation, (args, kwargs))
        traced = trace(operation, args, kwargs, mode)
        outputs = self.follow(traced, traced.outer)
        return outputs[0] if isinstance(operation, _SCORED) and not asked else outputs


def _name_apart(operations: Sequence[Any]) -> None:
    """Gives operations of one name different ones: by its name the file says which of them stays float."""
    owners = {x.name: x for x in operations if isinstance(x, keras.layers.Layer)}
    for operation in operations:
        names = (f"{operation.name}_{n}" if n else operation.name for n in itertools.count())
        if not isinstance(operation, keras.layers.Layer):
            operation.name = next(name for name in names if owners.get(name, operation) is operation)
            owners[operation.name] = operation


def _hand_masks_on(operation: Any, args: tuple, kwargs: dict[str, Any], outputs: Any) -> None:
    """Gives what a layer returns the mask that Keras would, where the layer itself was not called."""
    if not isinstance(operation, keras.layers.Layer) or isinstance(functional_of(operation), Functional):
        return
    first = args[0] if args else next(iter(kwargs.values()), None)
    masks = tree.map_structure(lambda x: get_keras_mask(x) if isinstance(x, keras.KerasTensor) else None, first)
    if isinstance(operation, _SCORED) and masks is not None:
        set_keras_mask(tree.flatten(outputs)[0], masks)
    elif operation.supports_masking and any(mask is not None for mask in tree.flatten(masks)):
        operation._set_mask_metadata(first, outputs, masks)


def functional_of(model: Any) -> Any:
    """The Functional model inside a Sequential one; anything else as it is."""
    return model._functional if isinstance(model, keras.Sequential) else model


def _cast_as_called(operation: Any, values: Any) -> Any:
    """The tensors in the precision that a layer's `__call__` hands them to its `call` in."""
    if not isinstance(operation, keras.layers.Layer) or not operation.autocast:
        return values

    def cast(value: Any) -> Any:
        is_real = isinstance(value, keras.KerasTensor) and "float" in str(value.dtype)
        return ops.cast(value, operation.compute_dtype) if is_real and value.dtype != operation.compute_dtype else value

    return tree.map_structure(cast, values)


def _is_custom(operation: Any) -> bool:
    is_layer = isinstance(operation, keras.layers.Layer)
    return is_layer and not type(operation).__module__.startswith("keras.src.layers")


def _explicit_mask(args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The causal mask of an attention layer as a mask like any other, if it asks for one."""
    query, value = args[0], args[1] if len(args) > 1 else kwargs["value"]
    if not kwargs.get("use_causal_mask") or None in (query.shape[1], value.shape[1]):
        return {}
    causal = np.tril(np.ones((1, query.shape[1], value.shape[1]), "bool"))
    given = kwargs.get("attention_mask")
    mask = causal if given is None else ops.logical_and(ops.cast(given, "bool"), causal)
    return {"use_causal_mask": False, "attention_mask": mask}


def _keeps_steps_apart(wrapper: Any, x: Any) -> bool:
    """Whether the layer inside does to all steps of a sequence at once what it does to each."""
    together = (keras.layers.RNN, keras.layers.BatchNormalization)
    return None not in x.shape[1:] and not any(isinstance(y, together) for y in wrapper.layer._flatten_layers())
