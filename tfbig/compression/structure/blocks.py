"""Residual blocks: which there are, how much each changes what passes through it, and the model without some."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.compression.structure.flops import products
from tfbig.compression.structure.graph import Call, Graph, flat_inputs, is_graph, kind, run
from tfbig.compression.structure.surgery import Surgery, clone, copy_weights
from tfbig.errors import InvalidArgument, InvalidData

_SCALED = "CustomScaleLayer"  # of keras.applications.InceptionResNetV2: adds its second input times a factor
_ADDITIONS = ("Add", "ops.Add", _SCALED)


@dataclasses.dataclass(frozen=True, eq=False)
class Block:
    """A residual branch, known by the operation that adds it to its shortcut."""

    addition: keras.Operation
    shortcut: int  # which of the addition's two inputs the branch starts from

    @property
    def name(self) -> str:
        return self.addition.name


class Residuals:
    """The blocks of a graph, and what its calls come to without some of them.

    A block is an addition of two tensors of one shape, one of which is computed from the other by products with
    weights or of activations.

    Args:
        exclude: names of layers that stay.
    """

    def __init__(self, graph: Graph, exclude: Collection[str] = ()):
        self._graph = graph
        self._producer = {id(x): call for call in graph.calls for x in call.outputs}
        self._whole = self._reached(())
        additions: dict[int, list[Call]] = {}
        for call in graph.calls:
            if kind(call.operation) in _ADDITIONS:
                additions.setdefault(id(call.operation), []).append(call)
        found = [block for calls in additions.values() if (block := self._block(calls)) is not None]
        self._kept = set(exclude)
        self.blocks = tuple(block for block in found if self.can_go([block]))

    def can_go(self, removed: Sequence[Block]) -> bool:
        """Whether the model without all of these still has all its inputs, and every layer that is to stay.

        What several blocks need may stay without each of them, and not without all.
        """
        left, entries = self._reached(removed), {id(x) for x in self._graph.inputs}
        gone = [call for call in self._graph.calls if id(call) in self._whole and id(call) not in left]
        return (
            left & entries == self._whole & entries
            and any(products(call) for call in gone)
            and not self._kept & {call.operation.name for call in gone}
        )

    def removable(self, order: Iterable[int]) -> list[Block]:
        """The blocks that can go together, taken in this order of their indices."""
        found: list[Block] = []
        for index in order:
            if self.can_go([*found, self.blocks[index]]):
                found.append(self.blocks[index])
        return found

    def live(self, removed: Iterable[Block] = ()) -> tuple[Call, ...]:
        """The calls that the outputs still need without these blocks, in the order of execution."""
        gone = {id(block.addition) for block in removed}
        reached = self._reached(removed)
        return tuple(c for c in self._graph.calls if id(c) in reached and id(c.operation) not in gone)

    def flops(self, removed: Iterable[Block] = ()) -> int:
        """Floating-point operations of one sample, as `flops.flops` counts them."""
        return 2 * sum(product.size for call in self.live(removed) for product in products(call))

    def parameters(self, removed: Iterable[Block] = ()) -> int:
        """Elements of all weights."""
        layers = {id(c.operation): c.operation for c in self.live(removed) if isinstance(c.operation, keras.Layer)}
        weights = {id(weight): weight for layer in layers.values() for weight in layer.weights}
        return sum(int(np.prod(weight.shape)) for weight in weights.values())

    def _block(self, calls: Sequence[Call]) -> Block | None:
        """The block of an addition; None unless all its calls agree which input is the shortcut."""
        places = {self._shortcut(call) for call in calls}
        place = places.pop()
        return None if place is None or places else Block(calls[0].operation, place)

    def _shortcut(self, call: Call) -> int | None:
        if len(call.inputs) != 2:
            return None
        first, second = call.inputs
        if not tuple(first.shape) == tuple(second.shape) == tuple(call.outputs[0].shape) or first is second:
            return None
        if self._depends(second, first):
            return 0
        scales_one = kind(call.operation) == _SCALED
        return 1 if not scales_one and self._depends(first, second) else None

    def _depends(self, tensor: keras.KerasTensor, other: keras.KerasTensor) -> bool:
        seen, waiting = set(), [tensor]
        while waiting:
            call = self._producer.get(id(waiting.pop()))
            if call is None or id(call) in seen:
                continue
            seen.add(id(call))
            if any(x is other for x in call.inputs):
                return True
            waiting.extend(call.inputs)
        return False

    def _reached(self, removed: Iterable[Block]) -> set[int]:
        """The ids of all calls and inputs that lead to the outputs, with shortcuts in the place of additions."""
        shortcuts = {id(block.addition): block.shortcut for block in removed}
        reached, waiting = set(), list(self._graph.outputs)
        while waiting:
            tensor = waiting.pop()
            call = self._producer.get(id(tensor))
            if id(call or tensor) in reached:
                continue
            reached.add(id(call or tensor))
            if call is not None:
                shortcut = shortcuts.get(id(call.operation))
                waiting.extend(call.inputs if shortcut is None else (call.inputs[shortcut],))
        return reached


@dataclasses.dataclass(frozen=True, eq=False)
class Shortening:
    """Which blocks go, the least influential first."""

    removed: tuple[Block, ...]

    def apply(self, model: keras.Model) -> keras.Model:
        """Returns a new model of plain layers with a copy of the weights that stay."""
        shortcuts = {id(block.addition): _Shortcut(block.shortcut) for block in self.removed}
        surgery = Surgery(lambda old: [shortcuts.get(id(old)) or clone(old)])  # type: ignore[list-item]
        shorter = surgery.rebuild(model)
        for old, (new,) in surgery.pairs():
            if isinstance(new, keras.Layer):
                copy_weights(old, new)  # type: ignore[arg-type]
        return shorter


class _Shortcut:
    """Stands where an addition was: lets one of its inputs through."""

    def __init__(self, place: int):
        self.place = place

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return keras.tree.flatten((args, kwargs))[self.place]


def influence(model: keras.Model, blocks: Sequence[Block], data: Any) -> list[float]:
    """How far each block turns what passes through it: 1 minus the mean cosine of its input and its output.

    The cosine is taken over the channels, the mean over all positions, samples and calls (Men et al. 2024,
    https://arxiv.org/abs/2403.03853, equation 1); from 0, where the block changes nothing, to 2.

    Args:
        data: batches of (x, y) or of x, all of which are used, or one array of samples, or (x, y).

    Raises:
        InvalidArgument: there is no data.
        InvalidData: it is empty.
    """
    places = {id(block.addition): (index, block.shortcut) for index, block in enumerate(blocks)}

    def turned(*inputs: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        found: list[list[tf.Tensor]] = [[] for _ in blocks]

        def call(operation: keras.Operation, args: tuple, kwargs: dict[str, Any]) -> Any:
            if is_graph(operation):
                return run(operation, keras.tree.flatten(args[0] if args else kwargs["inputs"]), call)  # type: ignore[arg-type]
            output = operation(*args, **kwargs)
            if id(operation) in places:
                index, shortcut = places[id(operation)]
                found[index].append(_cosines(keras.tree.flatten((args, kwargs))[shortcut], output))
            return output

        run(model, inputs, call)
        cosines = [tf.concat(each, 0) for each in found]
        return [(tf.reduce_sum(each), tf.cast(tf.size(each), tf.float32)) for each in cosines]

    specs = [tf.TensorSpec(x.shape, x.dtype) for x in model.inputs]
    traced = tf.function(turned, autograph=False).get_concrete_function(*specs)
    totals = [np.asarray(traced(*flat_inputs(model, x))) for x in _inputs(data)]
    if not totals:
        raise InvalidData("`importance_data` must yield at least one batch, received none.")
    return [float(1 - cosines / count) for cosines, count in np.sum(totals, axis=0)]


def _cosines(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """The cosine at each position; a vector that has not changed has 1, if it is 0 too."""
    a, b = (tf.reshape(tf.cast(x, tf.float32), [-1, x.shape[-1]]) for x in (before, after))
    lengths = tf.norm(a, axis=-1) * tf.norm(b, axis=-1)
    return tf.where(tf.reduce_all(a == b, axis=-1), 1.0, tf.math.divide_no_nan(tf.reduce_sum(a * b, -1), lengths))


def _inputs(data: Any) -> Iterable[Any]:
    if data is None:
        raise InvalidArgument(
            "PruneBlocks needs `importance_data`, batches of (x, y) or of x, to see which blocks do little; received "
            "None. Pass for example importance_data=data.train.take(8); tfbig.compress passes it by itself."
        )
    if isinstance(data, np.ndarray | tuple) or keras.ops.is_tensor(data):
        data = [data]
    return (batch[0] if isinstance(batch, tuple) else batch for batch in data)
