"""SavedModel folders of tf_keras: configuration and variables are read, the saved graph is never run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from tfbig.errors import InvalidFile, InvalidModel
from tfbig.models import safety
from tfbig.models.legacy.graph import Graph
from tfbig.models.legacy.source import Source, decode
from tfbig.models.legacy.weights import Saved, assign_all

_VALUE = "VARIABLE_VALUE"


def load(path: Path, *, unsafe: bool, custom_objects: dict[str, Any]) -> keras.Model:
    """Loads a SavedModel folder that tf_keras wrote with `model.save(folder)`.

    Raises:
        InvalidFile: no Keras metadata, code, or variables that do not fit the configuration.
        InvalidModel: a subclassed model, or something that Keras 3 does not have.
    """
    config = configuration(path)
    if not unsafe:
        safety.refuse_code(config, path)
    graph = Graph(Source(path, 2, custom_objects, unsafe))
    model = graph.make(config)
    assign_all(model, graph, _Variables(path).of_model(model, graph))
    return model


def configuration(path: Path) -> dict[str, Any]:
    """The model's configuration.

    Raises:
        InvalidFile: a SavedModel without Keras metadata, or damaged.
        InvalidModel: a subclassed model.
    """
    metadata = _root_metadata(path)
    if "layers" not in (metadata.get("config") or {}) or "class_name" not in metadata:
        raise InvalidModel(
            f"`{path}` holds a subclassed model: its computation is Python code that no file holds. Make the model "
            "from its code and load the weights into it."
        )
    return decode(json.dumps({"class_name": metadata["class_name"], "config": metadata["config"]}), path)


def _root_metadata(path: Path) -> dict[str, Any]:
    """The metadata of the model itself: in a file of its own, or before TensorFlow 2.5 inside the graph."""
    saved = SavedModel()
    try:
        if (path / "keras_metadata.pb").exists():
            from tf_keras.protobuf.saved_metadata_pb2 import SavedMetadata

            nodes = SavedMetadata()
            nodes.ParseFromString((path / "keras_metadata.pb").read_bytes())
            found = [node.metadata for node in nodes.nodes if node.node_id == 0]
        else:
            saved.ParseFromString((path / "saved_model.pb").read_bytes())
            graphs = [meta.object_graph_def for meta in saved.meta_graphs]
            found = [g.nodes[0].user_object.metadata for g in graphs if g.nodes]
    except DecodeError as error:
        raise InvalidFile(f"`{path}` is damaged: its SavedModel files cannot be read ({error}).") from error
    if not found or not found[0]:
        raise InvalidFile(
            f"`{path}` is a SavedModel without Keras metadata: it holds a graph to run, not the layers of a "
            "model. "
            "Load the original model file (.keras or .h5), or save it again with tf_keras "
            "`model.save(folder)`."
        )
    return json.loads(found[0])


class _Variables:
    """The checkpoint of a SavedModel, walked along its object graph."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self.reader = tf.train.load_checkpoint(str(path / "variables" / "variables"))
            self.graph = TrackableObjectGraph()
            self.graph.ParseFromString(self.reader.get_tensor("_CHECKPOINTABLE_OBJECT_GRAPH"))
        except (tf.errors.OpError, ValueError, DecodeError) as error:
            raise InvalidFile(f"`{path}`: its variables are missing or damaged: {error}") from error

    def of_model(self, model: keras.Model, graph: Graph, node: int = 0) -> Saved:
        """The arrays of each layer by name, with a dictionary of its own for each nested model."""
        places = self._children(node)
        found: dict[str, Any] = {}
        for index, child in enumerate(graph.children[id(model)]):
            place = places.get(f"layer-{index}")
            if place is None:
                continue
            if child.layer is not None and id(child.layer) in graph.children:
                found[child.name] = self.of_model(child.layer, graph, place)
            elif child.layer is not None:
                found[child.name] = self._arrays(place, child.layer)
        return found

    def _arrays(self, node: int, layer: keras.Layer) -> list[np.ndarray]:
        children = self._children(node)
        if "variables" in children:
            listed = self._children(children["variables"])
            return [self._value(listed[key]) for key in sorted(listed, key=int)]
        # Preprocessing layers are saved without that list, but with each variable under its name.
        return [self._value(children[v.name]) for v in layer.weights if v.name in children]

    def _children(self, node: int) -> dict[str, int]:
        return {child.local_name: child.node_id for child in self.graph.nodes[node].children}

    def _value(self, node: int) -> np.ndarray:
        for attribute in self.graph.nodes[node].attributes:
            if attribute.name == _VALUE:
                return self.reader.get_tensor(attribute.checkpoint_key)
        raise InvalidFile(f"`{self.path}`: a variable of the model is not in its checkpoint.")
