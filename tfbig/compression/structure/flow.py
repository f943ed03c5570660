"""How channels flow through a graph: the labels of tensors and weights, and the rules' vocabulary."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from tfbig.compression.structure.atoms import Atoms, Labels
from tfbig.compression.structure.graph import Call

Count = Callable[[Labels], int]  # How many of these channels stay.


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
    """What is known of one tensor.

    Attributes:
        axes: one entry per axis, the batch included.
        zero: whether a channel is exactly zero here once every weight slice that belongs to it is zero.
    """

    axes: tuple[Labels, ...]
    zero: bool = True

    def __getitem__(self, axis: int) -> Labels:
        return self.axes[axis]

    @property
    def cuttable(self) -> bool:
        """Whether any axis carries channels that might be removed."""
        return any(labels is not None for labels in self.axes)

    def replace(self, axis: int, labels: Labels, *, zero: bool) -> Channels:
        """The same tensor with other channels on one axis."""
        axes = list(self.axes)
        axes[axis] = labels
        return Channels(tuple(axes), zero)


@dataclasses.dataclass(frozen=True, eq=False)
class Producer:
    """A weight axis that creates channels: `width` units of the layer's output per label."""

    variable: keras.Variable
    axis: int
    labels: np.ndarray
    layer: keras.Layer
    width: int


@dataclasses.dataclass(frozen=True, eq=False)
class Edit:
    """An option of an operation that follows from which channels stay."""

    axes: tuple[Labels, ...]
    value: Callable[[Count], Any]


class NotUnderstood(Exception):
    """A rule's way to say that this call is beyond it: everything it touches then stays whole."""


Rule = Callable[[Call, "Flow"], "Channels | Sequence[Channels]"]
RULES: dict[str, Rule] = {}


def rule(*kinds: str) -> Callable[[Rule], Rule]:
    """Registers a rule: how channels pass through the operations of these kinds (see `graph.kind`)."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


class Flow:
    """The state of the walk: rules read the channels of a call's inputs and say what ties them to what."""

    def __init__(self) -> None:
        self.atoms = Atoms()
        self.tensors: dict[int, Channels] = {}
        self.bound: dict[tuple[int, int], Labels] = {}
        self.producers: list[Producer] = []
        self.scales: list[keras.Variable] = []
        self.edits: dict[int, dict[str, Edit]] = {}
        self.keepers: dict[str, None] = {}  # layers whose channels stay because each depends on all others

    def of(self, tensor: keras.KerasTensor) -> Channels:
        """The channels of a tensor."""
        return self.tensors[id(tensor)]

    def new(self, layer: keras.Layer, variable: keras.Variable, axis: int, *, width: int = 1) -> np.ndarray | None:
        """The channels that a weight axis creates; the same ones each time a shared layer is called."""
        key = id(variable), axis
        if variable.shape[axis] == 1:
            return None
        if key not in self.bound:
            labels = self.atoms.fresh(variable.shape[axis])
            self.bound[key] = labels
            self.producers.append(Producer(variable, axis, labels, layer, width))
        return self.bound[key]

    def bind(self, variable: keras.Variable | None, axis: int, labels: Labels) -> None:
        """Says that a weight axis is indexed by these channels, in every call of its layer."""
        if variable is None:
            return
        key = id(variable), axis
        if key in self.bound:
            self.bound[key] = self.atoms.merge(self.bound[key], labels)
        else:
            self.bound[key] = labels

    def edit(
        self, operation: keras.Operation, option: str, axes: Sequence[Labels], value: Callable[[Count], Any]
    ) -> None:
        """Says that an option follows from the channels of `axes`, alike in all calls of the operation."""
        options = self.edits.setdefault(id(operation), {})
        if option in options:
            self.unify(options[option].axes, axes)
        else:
            options[option] = Edit(tuple(axes), value)

    def unify(self, first: Sequence[Labels], second: Sequence[Labels]) -> None:
        """Ties two lists of axes together; where they cannot be, they stay whole."""
        for a, b in zip(first, second, strict=True):
            if a is not None and b is not None and len(a) != len(b):
                self.atoms.freeze(a)
                self.atoms.freeze(b)
            else:
                self.atoms.merge(a, b)

    def only(self, channels: Channels, *axes: int) -> Channels:
        """Keeps every axis whole but these; negative ones count from the end."""
        kept = {axis % len(channels.axes) for axis in axes}
        for axis, labels in enumerate(channels.axes):
            if axis not in kept:
                self.atoms.freeze(labels)
        trimmed = tuple(labels if axis in kept else None for axis, labels in enumerate(channels.axes))
        return Channels(trimmed, channels.zero)

    def whole(self, channels: Channels, *axes: int) -> Channels:
        """Keeps these axes whole: the operation mixes all that lies along them."""
        mixed = {axis % len(channels.axes) for axis in axes}
        return self.only(channels, *(axis for axis in range(len(channels.axes)) if axis not in mixed))


def fixed(tensor: keras.KerasTensor) -> Channels:
    """A tensor that is never cut."""
    return Channels((None,) * len(tensor.shape))


def count_of(labels: Labels) -> Callable[[Count], int]:
    """An option that is the number of channels left."""
    return lambda count: count(labels)


def is_plain(operation: keras.Operation) -> bool:
    """Whether an operation computes with its weights as they are: not quantized by Keras, no LoRA."""
    return getattr(operation, "quantization_mode", None) is None and not getattr(operation, "lora_enabled", False)
