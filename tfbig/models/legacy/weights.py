"""Puts the arrays of an old file into the rebuilt model, each layer's in the order that Keras 2 kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from tfbig.errors import InvalidFile
from tfbig.models.legacy.graph import Child, Graph
from tfbig.models.legacy.source import Source

Arrays = Sequence[np.ndarray]
Saved = Mapping[str, Any]  # Arrays by layer name; for a nested model a flat list, or a mapping of its own.
Convert = Callable[[keras.Layer, Arrays], Arrays]


def assign_all(model: keras.Model, graph: Graph, saved: Saved, convert: Convert | None = None) -> None:
    """Gives every layer of `model` its arrays.

    Args:
        saved: arrays by the layer's name in the file; a nested model's are one flat list (HDF5) or a mapping.
        convert: turns a layer's arrays into what Keras 3 expects (files of Keras 1).

    Raises:
        InvalidFile: arrays that do not fit the configuration; the message names the layer.
    """
    if not model.built:
        raise InvalidFile(
            f"`{graph.source.path}` does not say what input its Sequential model takes, so that it cannot "
            "be built. "
            "Build the same architecture with an Input and load the weights into it."
        )
    for child in graph.children[id(model)]:
        _assign(child, saved.get(child.name, []), graph, convert)


def _assign(child: Child, arrays: Any, graph: Graph, convert: Convert | None) -> None:
    if child.layer is None:
        return
    if isinstance(arrays, Mapping):
        assign_all(child.layer, graph, arrays, convert)
        return
    if id(child.layer) in graph.children:
        _assign_nested(child, arrays, graph, convert)
        return
    if convert is not None:
        arrays = list(convert(child.layer, arrays))
    variables = child.layer.trainable_weights + child.layer.non_trainable_weights
    _check(child.name, [tuple(v.shape) for v in variables], [a.shape for a in arrays], graph.source)
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)
    if hasattr(child.layer, "finalize_state"):  # Normalization computes with constants made from its variables.
        child.layer.finalize_state()


def _assign_nested(child: Child, arrays: list[np.ndarray], graph: Graph, convert: Convert | None) -> None:
    """A nested model's list: the trainable arrays of all its layers first, then all the others."""
    assert child.layer is not None
    children = [c for c in graph.children[id(child.layer)] if c.layer is not None]
    counts = [(len(c.layer.trainable_weights), len(c.layer.non_trainable_weights)) for c in children]  # type: ignore
    split = sum(trainable for trainable, _ in counts)
    total = split + sum(others for _, others in counts)
    if total != len(arrays):
        raise _misfit(child.name, f"{total} weights", f"{len(arrays)}", graph.source)
    first, second = 0, split
    for inner, (trainable, others) in zip(children, counts, strict=True):
        part = arrays[first : first + trainable] + arrays[second : second + others]
        _assign(inner, part, graph, convert)
        first, second = first + trainable, second + others


def _check(name: str, expected: list[tuple], received: list[tuple], source: Source) -> None:
    if expected != received:
        raise _misfit(name, f"weights of shapes {expected}", f"{received}", source)


def _misfit(name: str, expected: str, received: str, source: Source) -> InvalidFile:
    return InvalidFile(
        f"`{source.path}`: the weights do not fit the configuration. Layer '{name}' expects {expected}, the "
        "file has "
        f"{received}. The file may be damaged, or its weights belong to another version of the model."
    )
