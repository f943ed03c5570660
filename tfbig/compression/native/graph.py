"""A model as one flat graph: nested models, attention blocks and custom layers opened up.

Quantization must see every tensor that a LiteRT file will hold. Keras graphs hide many of them: inside a nested model,
inside MultiHeadAttention, between a convolution and its `activation=`. `flatten` runs the model once more on symbolic
tensors and opens these on the way; what cannot be opened stays the layer it is.
"""

from __future__ import annotations

import collections
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import tree
from keras.src.backend.common.global_state import get_global_attribute, set_global_attribute
from keras.src.models.functional import Functional

from tfbig.compression.native.opener import Opener, functional_of
from tfbig.compression.native.steps import Graph, Step, sort
from tfbig.compression.native.tracing import fresh, trace
from tfbig.errors import InvalidModel

__all__ = ["Graph", "Step", "bind", "flatten", "recorded_inputs"]


def flatten(model: keras.Model) -> Graph:
    """Returns the flat graph of `model`, and takes `activation=` off its layers: hand in a copy.

    Raises:
        Untraceable: the call of a subclassed model does something that needs real tensors.
        InvalidModel: Keras did not record with which shapes a subclassed model was built.
    """
    opener = Opener()
    functional = functional_of(model)
    with _numbered_from_one():
        if isinstance(functional, Functional):
            inputs = [fresh(x) for x in functional.inputs]
            return opener.graph(inputs, opener.rerun(sort(functional.inputs, functional._outputs_struct), inputs))
        args, kwargs = recorded_inputs(model)
        traced = trace(model, args, kwargs, None)
        return opener.graph(traced.outer, opener.follow(traced, traced.outer))


@contextlib.contextmanager
def _numbered_from_one() -> Iterator[None]:
    """Keras numbers operations through the life of a process; their names are in the file, which should repeat."""
    outer = get_global_attribute("object_name_uids")
    set_global_attribute("object_name_uids", collections.defaultdict(int))
    try:
        yield
    finally:
        set_global_attribute("object_name_uids", outer)


def bind(model: keras.Model, args: tuple, kwargs: dict[str, Any]) -> list[Any]:
    """The values of the flat graph's inputs in one call of the model."""
    functional = functional_of(model)
    if isinstance(functional, Functional):
        return functional._standardize_inputs(args[0] if args else kwargs["inputs"])
    tensors = {name: value for name, value in kwargs.items() if name not in ("training", "mask")}
    return tree.flatten((args, tensors))


def recorded_inputs(model: keras.Model) -> tuple[tuple, dict[str, Any]]:
    """Symbols for the arguments of a subclassed model's call, by the shapes that it was built with.

    Raises:
        InvalidModel: Keras recorded no shapes.
    """
    shapes = dict(getattr(model, "_build_shapes_dict", None) or {})
    if not shapes:
        raise InvalidModel(
            f"`model` '{model.name}' is subclassed and Keras did not record its input shape. Call "
            "model.build(input_shape) before compressing it."
        )
    symbols = {}
    for argument, shape in shapes.items():
        name = argument.removesuffix("_shape")  # Given to the tensors too: numbered names would differ in each call.
        make = functools.partial(_symbol, dtype=model.input_dtype, name=name)
        symbols[name] = _map_shapes(make, shape)
    first = next(iter(symbols))
    return (symbols.pop(first),), symbols


def _symbol(shape: tuple, *, dtype: str, name: str) -> keras.KerasTensor:
    return keras.KerasTensor((None, *shape[1:]), dtype, name=name)


def _map_shapes(make: Callable[[tuple], Any], shape: Any) -> Any:
    if isinstance(shape, dict):
        return {name: _map_shapes(make, one) for name, one in shape.items()}
    if all(d is None or isinstance(d, int) for d in shape):
        return make(tuple(shape))
    return [_map_shapes(make, one) for one in shape]
