"""The flat graph itself: steps, the tensors between them, and how to compute it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from keras import tree


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation of the flat graph; its tensors are named by the `id` of their symbolic counterparts."""

    operation: Any  # a Keras layer or a `keras.ops` operation
    arguments: Any  # Keras's record of the call; `fill_in` puts values into it
    inputs: tuple[int, ...]  # those that depend on the inputs of the model, not on its weights alone
    outputs: tuple[int, ...]
    mode: bool | None = None  # the value of `training` that the model's own code fixes for this step

    @property
    def name(self) -> str:
        return getattr(self.operation, "path", None) or self.operation.name

    def compute(self, args: tuple, kwargs: dict[str, Any], training: bool) -> Any:
        """Calls the operation, in the mode of the model unless the step has one of its own."""
        if takes_training(self.operation):
            kwargs = {**kwargs, "training": training if self.mode is None else self.mode}
        return self.operation(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class Graph:
    """A flat model; `steps` are in the order of computation."""

    inputs: tuple[keras.KerasTensor, ...]
    steps: tuple[Step, ...]
    outputs: Any  # the structure that the model returns, of symbolic tensors
    tensors: Mapping[int, keras.KerasTensor]
    weights: Mapping[int, keras.Variable]  # variables that steps compute with, by their symbols
    whole: Mapping[int, str] = dataclasses.field(default_factory=dict)  # layers that could not be opened, and why

    def run(self, values: Sequence[Any], call: Callable[[Step, tuple, dict], Any]) -> Any:
        """Computes the outputs for `values`, one for each input; `call(step, args, kwargs)` does one step."""
        known: dict[int, Any] = {id(symbol): value for symbol, value in zip(self.inputs, values, strict=True)}
        known.update(self.weights)
        with warnings.catch_warnings():
            # Attention, written out, has its masks as steps; its layers are told of them all the same.
            warnings.filterwarnings("ignore", message=r"Layer '.*' \(of type .*\) was passed an input with a mask")
            for step in self.steps:
                args, kwargs = step.arguments.fill_in(known)
                known.update(zip(step.outputs, tree.flatten(call(step, args, kwargs)), strict=True))
        return tree.map_structure(lambda symbol: known[id(symbol)], self.outputs)

    def weights_of(self, step: Step) -> list[keras.Variable]:
        """The variables that a step computes with."""
        if isinstance(step.operation, keras.layers.Layer):
            return list(step.operation.weights)
        symbols = tree.flatten((step.arguments.args, step.arguments.kwargs))
        leaves = [self.weights.get(id(symbol), symbol) for symbol in symbols]
        return [leaf for leaf in leaves if isinstance(leaf, keras.Variable)]

    def with_weights_as_inputs(self) -> Graph:
        """The same graph, taking the values of its weights behind those of its inputs."""
        symbols = tuple(self.tensors[tensor] for tensor in self.weights)
        return dataclasses.replace(self, inputs=(*self.inputs, *symbols), weights={})


def takes_training(operation: Any) -> bool:
    """Whether an operation is a layer that behaves differently in training."""
    return bool(getattr(operation, "_call_has_training_arg", False))


def sort(
    inputs: Sequence[Any],
    outputs: Any,
    weights: Sequence[tuple[keras.KerasTensor, keras.Variable]] = (),
    modes: Mapping[int, bool] | None = None,
) -> Graph:
    """The graph between symbolic inputs and outputs, read from Keras's history of them.

    Args:
        weights: symbols that stand for variables.
        modes: the fixed training modes of steps, by output tensor.

    Raises:
        ValueError: an output does not depend on the inputs by Keras operations alone.
    """
    reader = _Reader([*inputs, *(symbol for symbol, _ in weights)], {id(x) for x in inputs}, modes or {})
    for symbol in tree.flatten(outputs):
        reader.read(symbol)
    named = {id(symbol): variable for symbol, variable in weights if id(symbol) in reader.used}
    return Graph(tuple(inputs), tuple(reader.steps), outputs, reader.tensors, named)


class _Reader:
    """Collects the steps that lead to a tensor, those it depends on first."""

    def __init__(self, known: Sequence[Any], varying: set[int], modes: Mapping[int, bool]):
        self.tensors = {id(x): x for x in known}
        self.varying, self.modes = varying, modes
        self.steps: list[Step] = []
        self.used: set[int] = set()

    def read(self, output: Any) -> None:
        pending = [output]
        while pending:
            symbol = pending[-1]
            if id(symbol) in self.tensors:
                pending.pop()
                continue
            history = getattr(symbol, "_keras_history", None)
            if history is None or history.operation is None:
                raise ValueError(f"{symbol} does not depend on the inputs by Keras operations alone.")
            node = history.operation._inbound_nodes[history.node_index]
            missing = [x for x in node.input_tensors if id(x) not in self.tensors]
            if missing:
                pending.extend(reversed(missing))
            else:
                self.add(node)

    def add(self, node: Any) -> None:
        self.used.update(id(x) for x in node.input_tensors)
        inputs = tuple(id(x) for x in node.input_tensors if id(x) in self.varying)
        outputs = tuple(id(x) for x in node.outputs)
        self.tensors.update((id(x), x) for x in node.outputs)
        if inputs:
            self.varying.update(outputs)
        mode = self.modes.get(outputs[0]) if outputs else None
        self.steps.append(Step(node.operation, node.arguments, inputs, outputs, mode))
