"""Rebuilds a model from its configuration: layers are made once and called where the file says."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from tfbig.errors import InvalidFile, InvalidModel
from tfbig.models.legacy import tf_ops
from tfbig.models.legacy.inputs import check_input, input_layer, plain_name, sequential_input
from tfbig.models.legacy.layers import make_layer
from tfbig.models.legacy.references import Ref, references, split_arguments, walk
from tfbig.models.legacy.source import Source
from tfbig.models.safety import describe, find_custom

_MODELS = ("Model", "Functional", "Sequential")


@dataclasses.dataclass(frozen=True)
class Child:
    """A layer of a rebuilt model, by the name and class that the file has for it.

    Attributes:
        layer: None for a raw TensorFlow operation, which has become `keras.ops` calls.
    """

    name: str
    class_name: str
    layer: keras.Layer | None


class Graph:
    """Rebuilds models, and remembers the order in which the file lists the layers of each.

    Attributes:
        children: for each rebuilt model by `id`, its layers in the order of the file.
    """

    def __init__(self, source: Source):
        self.source = source
        self.children: dict[int, list[Child]] = {}

    def make(self, entry: dict[str, Any]) -> Any:
        """Makes the model or layer of one entry of the configuration.

        Raises:
            InvalidModel: a class, option or operation that Keras 3 does not have.
            InvalidFile: a graph that is not whole.
        """
        if not is_model(entry):
            return make_layer(entry, self.source, self.make)
        if isinstance(entry["config"], list):  # Keras before 2.2.3 saved Sequential as a bare list.
            entry = {**entry, "config": {"name": entry.get("name"), "layers": entry["config"]}}
        build = self._functional if "input_layers" in entry["config"] else self._sequential
        return build(entry)

    def _sequential(self, entry: dict[str, Any]) -> keras.Sequential:
        config = entry["config"]
        if entry["class_name"] != "Sequential":
            raise InvalidModel(
                f"`{self.source.path}` holds {describe(entry)}, a subclassed model: its computation is "
                "Python code "
                "that no file holds. Make the model from its code and load the weights into it."
            )
        children = [
            Child(item["config"]["name"], item["class_name"], self.make(item))
            for item in map(_named, config["layers"])
            if item["class_name"] != "InputLayer"
        ]
        model = keras.Sequential(name=plain_name(config.get("name")))
        first = sequential_input(config, children[0].layer if children else None, self.source)
        if first is not None:
            model.add(first)
        for child in children:
            model.add(child.layer)
        self.children[id(model)] = children
        return model

    def _functional(self, entry: dict[str, Any]) -> keras.Model:
        config = entry["config"]
        calls = _Calls(config, self)
        calls.run()
        model_class = find_custom((entry.get("registered_name"), entry["class_name"]), self.source.custom_objects)
        try:
            model = (model_class or keras.Model)(
                inputs=calls.tensors_of(config["input_layers"]),
                outputs=calls.tensors_of(config["output_layers"]),
                name=plain_name(config.get("name")),
            )
        except (ValueError, TypeError) as error:
            raise InvalidModel(f"`{self.source.path}`: {describe(entry)} cannot be rebuilt: {error}") from error
        self.children[id(model)] = calls.children
        return model


class _Calls:
    """The calls of one Functional model, done in an order in which every input is there."""

    def __init__(self, config: dict[str, Any], graph: Graph):
        self.graph, self.source, self.config = graph, graph.source, config
        self.entries = {item["name"]: item for item in map(_named, config["layers"])}
        self.outputs: dict[tuple[str, int], list[Any]] = {}
        self.children: list[Child] = []
        self.first_node = self._first_nodes()

    def run(self) -> None:
        waiting = [
            (name, node, references(call, self.entries))
            for name, item in self.entries.items()
            for node, call in enumerate(item.get("inbound_nodes") or [])
        ]
        self.children = [self._child(name, item) for name, item in self.entries.items()]
        layers = {child.name: child.layer for child in self.children}
        while waiting:
            ready = [call for call in waiting if self._known(call[2])]
            if not ready:
                names = ", ".join(sorted({name for name, _, _ in waiting}))
                raise InvalidFile(f"`{self.source.path}`: the inputs of these layers do not exist: {names}.")
            for name, node, call in ready:
                result = self._call(self.entries[name], layers[name], call)
                self.outputs[name, node] = keras.tree.flatten(result)
            waiting = [call for call in waiting if call not in ready]

    def tensors_of(self, structure: Any) -> Any:
        found = self._filled(references(structure, self.entries))
        return found[0] if isinstance(found, list) and len(found) == 1 else found

    def _child(self, name: str, item: dict[str, Any]) -> Child:
        if item["class_name"] == "InputLayer":
            check_input(item, self.source)
            layer = input_layer(item["config"])
            self.outputs[name, 0] = [layer.output]
        else:
            layer = None if item["class_name"] in tf_ops.CLASSES else self.graph.make(item)
        return Child(name, item["class_name"], layer)

    def _call(self, item: dict[str, Any], layer: keras.Layer | None, call: Any) -> Any:
        inputs, options = split_arguments(self._filled(call))
        if layer is None:
            return tf_ops.apply(item, inputs, options, self.source)
        if isinstance(inputs, list) and len(inputs) == 1:
            inputs = inputs[0]
        if isinstance(layer, keras.layers.RNN | keras.layers.Bidirectional) and isinstance(inputs, list):
            inputs, options = inputs[0], {**options, "initial_state": inputs[1:]}
        try:
            return layer(inputs, **{k: v for k, v in options.items() if v is not None})
        except (TypeError, ValueError) as error:
            raise InvalidModel(f"`{self.source.path}`: {describe(item)} refused its input: {error}") from error

    def _first_nodes(self) -> dict[str, int]:
        """Calls of a nested model may be numbered from 0 or, after the one that made it, from 1."""
        calls = [item.get("inbound_nodes") or [] for item in self.entries.values()]
        found: dict[str, int] = {}
        for part in (calls, self.config["input_layers"], self.config["output_layers"]):
            for ref in walk(references(part, self.entries)):
                found[ref.layer] = min(ref.node, found.get(ref.layer, ref.node))
        return found

    def _known(self, call: Any) -> bool:
        return all((ref.layer, self._node(ref)) in self.outputs for ref in walk(call))

    def _node(self, ref: Ref) -> int:
        return ref.node - (self.first_node[ref.layer] if is_model(self.entries[ref.layer]) else 0)

    def _filled(self, structure: Any) -> Any:
        if isinstance(structure, Ref):
            return self.outputs[structure.layer, self._node(structure)][structure.tensor]
        if isinstance(structure, list):
            return [self._filled(item) for item in structure]
        if isinstance(structure, tuple):
            return tuple(self._filled(item) for item in structure)
        if isinstance(structure, dict):
            return {key: self._filled(value) for key, value in structure.items()}
        return structure


def is_model(entry: dict[str, Any]) -> bool:
    """Whether an entry is a model: one of Keras's classes, or any with layers of its own."""
    config = entry["config"]
    return entry["class_name"] in _MODELS or (isinstance(config, dict) and "input_layers" in config)


def _named(item: dict[str, Any]) -> dict[str, Any]:
    config = item["config"]
    name = item.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return {**item, "name": name}
