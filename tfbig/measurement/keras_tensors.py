"""What a Keras model computes between its layers, and which operation of its LiteRT file is which layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.compression.native.clone import clone
from tfbig.compression.native.graph import Graph, Step, flatten
from tfbig.compression.native.inference import folded_outputs, quantizing_machine
from tfbig.compression.native.kernels import compressible_kernels
from tfbig.compression.native.precision import in_float32
from tfbig.compression.native.prepared import WeightsSeenThrough
from tfbig.errors import InvalidModel
from tfbig.exporters.tensor_ranges import ValueIndex


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a tensor of the file stands in the Keras model."""

    tensor: int  # of the flat graph
    layer: str
    weighted: tuple[str, ...]  # layers with weights that the operation computes; recipes can name them


class KerasTensors:
    """The model as a flat graph of operations whose every tensor can be seen.

    Raises:
        Untraceable: the model's call is no such graph.
        InvalidModel: the model cannot be copied.
    """

    def __init__(self, model: keras.Model):
        machine = quantizing_machine(model)
        self.machine = machine if machine is not None and machine.graph is not None else None
        self.model = model if self.machine else clone(model)
        self.graph: Graph = self.machine.graph if self.machine else flatten(self.model)
        self.owners = _owners(self.model)

    def expected(self, values: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """Each tensor as the model computes it: rounded if it was trained under `Quantize`, else in float."""
        if self.machine is None:
            return self.in_float(values)
        with in_float32(self._layers()), WeightsSeenThrough(self.model.machines, training=False):
            return _as_arrays(self.machine.tensors([tf.convert_to_tensor(v) for v in values]))

    def in_float(self, values: Sequence[np.ndarray]) -> dict[int, np.ndarray]:
        """Each tensor as the float LiteRT file computes it."""
        found: dict[int, Any] = {}
        tensors = [tf.convert_to_tensor(v) for v in values]
        if self.machine is not None:
            folded_outputs(self.model, tensors, found.__setitem__)
            return _as_arrays(found)

        def call(step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
            outputs = step.compute(args, kwargs, training=False)
            found.update(zip(step.outputs, keras.tree.flatten(outputs), strict=True))
            return outputs

        with in_float32(self._layers()):
            self.graph.run(tensors, call)
        return _as_arrays(found)

    def places(self, values: Sequence[np.ndarray], file_tensors: Sequence[tuple[str, np.ndarray]]) -> dict[str, Place]:
        """Finds the tensors of a float file in the graph, by their values for the inputs `values`."""
        computed = self.in_float(values)
        made = [tensor for step in self.graph.steps for tensor in step.outputs if tensor in computed]
        index = ValueIndex([computed[tensor] for tensor in made])
        found: dict[str, int] = {}
        for name, value in file_tensors:
            # Flattening and the like leave the numbers as they are: equal tensors follow each other in either graph.
            equal = [made[i] for i in index.equal_to(value)]
            free = [tensor for tensor in equal if tensor not in found.values()]
            if equal:
                found[name] = (free or equal)[0]
        return self._with_layers(found)

    def _with_layers(self, found: dict[str, int]) -> dict[str, Place]:
        producer = {tensor: step for step in self.graph.steps for tensor in step.outputs}
        known = set(found.values())
        claimed: set[str] = set()
        order = {tensor: i for i, tensor in enumerate(producer)}
        places: dict[str, Place] = {}
        for name, tensor in sorted(found.items(), key=lambda item: order[item[1]]):
            steps = _steps_behind(tensor, producer, known)
            owners = [o for step in steps for o in self._owners_of(step) if o not in claimed]
            weighted = tuple(dict.fromkeys(owners))
            claimed.update(weighted)
            label = weighted[0] if weighted else self._label(steps[0], places)
            places[name] = Place(tensor, label, weighted)
        return {name: places[name] for name in found}

    def _label(self, step: Step, places: dict[str, Place]) -> str:
        """The layer's name; what was taken out of a layer (its activation) or renumbered is named after that layer."""
        own = {layer.name for layer in self.model._flatten_layers()}
        operation = step.operation
        if operation.name in own and operation in self.model._flatten_layers():
            return step.name
        if isinstance(operation, keras.layers.Activation):
            before = [place.layer for place in places.values() if place.tensor in step.inputs]
            return f"{before[0] if before else step.name} {operation.activation.__name__}"
        plain = operation.name.rstrip("0123456789").rstrip("_")
        return plain if plain in own else step.name

    def _owners_of(self, step: Step) -> list[str]:
        operation = self.owners.get(id(step.operation))
        leaves = keras.tree.flatten((step.arguments.args, step.arguments.kwargs))
        variables = [self.graph.weights.get(id(leaf), leaf) for leaf in leaves]
        found = [operation, *(self.owners.get(id(v)) for v in variables)]
        return [name for name in found if name is not None]

    def _layers(self) -> list[Any]:
        steps = [step.operation for step in self.graph.steps if isinstance(step.operation, keras.layers.Layer)]
        return [*self.model._flatten_layers(), *steps]


def _owners(model: keras.Model) -> dict[int, str]:
    """The name of the layer that recipes can exempt, for each such layer and for each of its weight tensors."""
    tables = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Normalization)]
    found = {id(layer): layer.name for layer in tables}
    try:
        kernels = compressible_kernels(model, min_size=1)
    except InvalidModel:  # Nothing else has weights.
        return found
    for kernel in kernels:
        layer = kernel.layer
        same = {id(k.layer) for k in kernels if k.layer.name == layer.name}
        found[id(layer)] = found[id(kernel.variable)] = layer.name if len(same) == 1 else layer.path
    return found


def _steps_behind(tensor: int, producer: dict[int, Step], known: set[int]) -> list[Step]:
    """The steps that one operation of the file computes: back from its output to the tensors before it."""
    steps: list[Step] = []
    pending = [tensor]
    while pending:
        step = producer[pending.pop()]
        if step not in steps:
            steps.append(step)
            pending.extend(t for t in step.inputs if t in producer and t not in known)
    return steps[::-1]


def _as_arrays(values: dict[int, Any]) -> dict[int, np.ndarray]:
    """Those that are real numbers."""
    arrays = {tensor: np.asarray(value) for tensor, value in values.items()}
    return {tensor: array.astype("float32") for tensor, array in arrays.items() if array.dtype.kind == "f"}
