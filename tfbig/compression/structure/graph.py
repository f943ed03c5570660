"""The flattened graph of a Keras 3 model: every call of every operation, with nested models opened up.

Keras records a model's graph in attributes that are private and pinned with its version; they are read here
only.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras.src.models.functional import Functional

from tfbig.errors import InvalidArgument, InvalidModel, unknown

Shape = tuple[int | None, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """One call of one operation: what went in and came out, as symbolic tensors with a batch of one."""

    operation: keras.Operation
    args: tuple
    kwargs: dict[str, Any]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Graph:
    """All calls in the order of execution.

    Attributes:
        entries: for each call of a nested model, the model and the tensors that went in.
    """

    calls: tuple[Call, ...]
    inputs: tuple[keras.KerasTensor, ...]
    outputs: tuple[keras.KerasTensor, ...]
    entries: tuple[tuple[keras.Model, tuple[keras.KerasTensor, ...]], ...]


def require_graph(model: Any, what: str) -> keras.Model:
    """Returns `model` if it is a built Functional or Sequential Keras 3 model.

    Raises:
        InvalidModel: it is not; the message says what to do.
    """
    if not isinstance(model, keras.Model):
        raise InvalidModel(
            f"{what} needs a Keras 3 model, received {type(model).__name__}. Load the model with tfbig.load(path)."
        )
    if not is_graph(model):
        raise InvalidModel(
            f"{what} needs a Functional or Sequential model, because it changes layers along their graph; "
            f"received '{model.name}', a subclassed model ({type(model).__name__}). Build it as "
            f"keras.Model(inputs, outputs) from keras.Input and the same layers, then copy the weights."
        )
    if isinstance(model, keras.Sequential) and _functional(model) is None:
        raise InvalidModel(
            f"{what} needs a built model; '{model.name}' has no input shape yet. Start it with "
            f"keras.Input(shape), or call model.build(input_shape)."
        )
    return model


def is_graph(operation: Any) -> bool:
    """Whether `operation` is a model whose inside can be walked."""
    return isinstance(operation, Functional | keras.Sequential)


def run(
    model: keras.Model, inputs: Sequence[Any], call: Callable[[keras.Operation, tuple, dict[str, Any]], Any]
) -> Any:
    """Executes the model's graph on `inputs`, with `call` in place of each operation's own call.

    Returns the outputs in the model's own structure. Nested models are one operation each.
    """
    function = _functional(model)
    values = {id(symbol): value for symbol, value in zip(function.inputs, inputs, strict=True)}
    for node in _nodes(function):
        args, kwargs = node.arguments.fill_in(values)
        outputs = call(node.operation, args, kwargs)
        values.update(
            {id(symbol): value for symbol, value in zip(node.outputs, keras.tree.flatten(outputs), strict=True)}
        )
    return keras.tree.pack_sequence_as(function._outputs_struct, [values[id(x)] for x in function.outputs])


def input_layers(model: keras.Model) -> list[keras.layers.InputLayer]:
    """The layers where the model's inputs enter."""
    return [x._keras_history.operation for x in _functional(model).inputs]


def pack_inputs(model: keras.Model, inputs: Sequence[Any]) -> Any:
    """Arranges one value per model input in the structure in which the model takes them."""
    return keras.tree.pack_sequence_as(_functional(model)._inputs_struct, list(inputs))


def flat_inputs(model: keras.Model, inputs: Any) -> list[Any]:
    """One tensor per model input, from inputs in any structure that the model itself takes."""
    return keras.tree.flatten(_functional(model)._standardize_inputs(inputs))  # type: ignore[no-any-return]


def flatten(model: keras.Model, *, input_shape: Any = None, unknown: int | None = None) -> Graph:
    """Walks `model`, nested models included, and infers every shape for a batch of one.

    Args:
        input_shape: shape of the input without the batch axis, or a list of shapes for several inputs; by
            default the model's own.
        unknown: the size to put where the model leaves a size open; by default that is an error.

    Raises:
        InvalidArgument: a size is open, or `input_shape` does not fit the model.
    """
    shapes = _input_shapes(model, input_shape, unknown)
    inputs = tuple(keras.KerasTensor(shape, dtype=x.dtype) for x, shape in zip(model.inputs, shapes, strict=True))
    calls: list[Call] = []
    entries: list[tuple[keras.Model, tuple[keras.KerasTensor, ...]]] = []

    def record(operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> Any:
        tensors = tuple(x for x in keras.tree.flatten((args, kwargs)) if isinstance(x, keras.KerasTensor))
        if is_graph(operation):
            fed = tuple(keras.tree.flatten(args[0] if args else kwargs["inputs"]))
            entries.append((operation, fed))
            return run(operation, fed, record)
        outputs = _infer(operation, args, kwargs)
        calls.append(Call(operation, args, kwargs, tensors, tuple(keras.tree.flatten(outputs))))
        return outputs

    outputs = run(model, inputs, record)
    return Graph(tuple(calls), inputs, tuple(keras.tree.flatten(outputs)), tuple(entries))


def _infer(operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> Any:
    """The symbolic outputs of one call; EinsumDense, for one, leaves sizes open that tracing its call can tell."""
    outputs = operation.compute_output_spec(*args, **kwargs)
    if _has_open_sizes(outputs):
        outputs = keras.Operation.compute_output_spec(operation, *args, **kwargs)
    if _has_open_sizes(outputs):
        raise InvalidModel(
            f"The output sizes of {describe(operation)} cannot be told from its inputs, so its graph cannot be "
            f"analysed. Replace the layer by one with fixed output sizes."
        )
    return outputs


def _has_open_sizes(outputs: Any) -> bool:
    return any(None in x.shape for x in keras.tree.flatten(outputs))


def kind(operation: keras.Operation) -> str:
    """The name under which tables know an operation: "Dense", "ops.Reshape", or "package.module.Class"."""
    cls = type(operation)
    if not cls.__module__.startswith("keras."):
        return f"{cls.__module__}.{cls.__name__}"
    return cls.__name__ if isinstance(operation, keras.Layer) else f"ops.{cls.__name__}"


def describe(operation: keras.Operation) -> str:
    """How error messages name an operation."""
    return f"'{operation.name}' ({type(operation).__name__})"


def layer_names(model: keras.Model) -> set[str]:
    """The names of all layers, those of nested models included."""
    names: set[str] = set()
    for layer in model.layers:
        names |= layer_names(layer) if is_graph(layer) else {layer.name}
    return names


def check_names(argument: str, names: Any) -> tuple[str, ...]:
    """Returns an option that lists layers as a tuple; raises `InvalidArgument` if it is something else."""
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise InvalidArgument(f"`{argument}` must be a list of layer names, received {names!r}.")
    return tuple(names)


def check_layers(argument: str, names: Sequence[str], model: keras.Model) -> None:
    """Raises `InvalidArgument` if the model has no layer of one of these names; the message has the nearest."""
    known = layer_names(model)
    for name in names:
        if name not in known:
            raise unknown(f"layer in `{argument}`", name, known)


def channel_axis(layer: keras.Layer, rank: int) -> int:
    """Index of the channel axis of a layer that has a `data_format`."""
    return 1 if getattr(layer, "data_format", "channels_last") == "channels_first" else rank - 1


def size(shape: Sequence[int]) -> int:
    """Number of elements of one sample."""
    return math.prod(shape[1:])


def _functional(model: keras.Model) -> Any:
    return model._functional if isinstance(model, keras.Sequential) else model


def _nodes(function: Functional) -> Iterator[Any]:
    for depth in sorted(function._nodes_by_depth, reverse=True):
        for node in function._nodes_by_depth[depth]:
            if not node.is_input:
                yield node


def _input_shapes(model: keras.Model, given: Any, unknown: int | None) -> list[Shape]:
    own = [tuple(x.shape) for x in model.inputs]
    if given is None:
        wanted = [shape[1:] for shape in own]
    elif given and isinstance(given[0], list | tuple):
        wanted = [tuple(shape) for shape in given]
    else:
        wanted = [tuple(given)]
    fits = len(wanted) == len(own) and all(map(_fits, wanted, [shape[1:] for shape in own]))
    if not fits:
        raise InvalidArgument(
            f"`input_shape` must fit the model's {[list(shape[1:]) for shape in own]}, received {given!r}."
        )
    filled = [tuple(unknown if n is None else n for n in shape) for shape in wanted]
    if any(None in shape for shape in filled):
        raise InvalidArgument(
            f"Model '{model.name}' leaves sizes of its input open: {[list(shape[1:]) for shape in own]}. "
            f"Pass `input_shape`, the shape of one sample."
        )
    return [(1, *shape) for shape in filled]


def _fits(given: Shape, declared: Shape) -> bool:
    return len(given) == len(declared) and all(
        a is None or b is None or a == b for a, b in zip(given, declared, strict=True)
    )
