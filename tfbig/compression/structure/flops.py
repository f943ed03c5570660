"""Counts the multiply-accumulate operations of a Keras 3 model from its graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras

from tfbig.compression.structure.graph import Call, channel_axis, describe, flatten, kind, require_graph
from tfbig.compression.structure.rules_attention import attended, einsum_specs

Owner = Any  # A keras.Variable or keras.KerasTensor.


@dataclasses.dataclass(frozen=True, eq=False)
class Product:
    """`repeats` times the product of some sizes: axes of weights and tensors, which pruning may shorten."""

    repeats: int
    axes: tuple[tuple[Owner, int], ...]

    @property
    def size(self) -> int:
        """The product."""
        total = self.repeats
        for owner, axis in self.axes:
            total *= owner.shape[axis]
        return total


Counter = Callable[[Call], Iterable[Product]]
COUNTERS: dict[str, Counter] = {}
WITHOUT_PRODUCTS = ("Embedding", "PReLU", "LayerNormalization", "IntegerLookup", "StringLookup")


def flops(model: keras.Model, *, input_shape: Any = None) -> int:
    """Floating-point operations of one forward pass of one sample: twice the multiply-accumulates.

    Counted are the products that dominate: dense, (depthwise, separable, transposed) convolution, einsum,
        matmul, attention and recurrent layers. Biases, activations, normalization and pooling are not, as is
        usual.

    Args:
        input_shape: shape of one sample (a list of shapes for several inputs); needed where the model leaves
            sizes open.

    Raises:
        InvalidModel: the model is subclassed, or not built.
        InvalidArgument: a size is open, or `input_shape` does not fit.
    """
    return 2 * macs(model, input_shape=input_shape)


def macs(model: keras.Model, *, input_shape: Any = None) -> int:
    """Multiply-accumulate operations of one forward pass of one sample; see `flops`."""
    graph = flatten(require_graph(model, "Counting FLOPs"), input_shape=input_shape)
    return sum(product.size for call in graph.calls for product in products(call))


def uncounted(model: keras.Model) -> list[str]:
    """Names the layers with weight matrices whose products `flops` does not know."""
    calls = flatten(require_graph(model, "Counting FLOPs"), unknown=224).calls
    unknown = [call.operation for call in calls if not products(call)]
    heavy = [op for op in unknown if isinstance(op, keras.Layer) and any(len(w.shape) > 1 for w in op.weights)]
    return list(dict.fromkeys(describe(op) for op in heavy if kind(op) not in WITHOUT_PRODUCTS))


def products(call: Call) -> list[Product]:
    """The products of one call, empty if it has none or is not known."""
    counter = COUNTERS.get(kind(call.operation))
    return list(counter(call)) if counter else []


def _counts(*kinds: str) -> Callable[[Counter], Counter]:
    def register(function: Counter) -> Counter:
        COUNTERS.update(dict.fromkeys(kinds, function))
        return function

    return register


def _every_axis(owner: Owner, *without: int) -> list[tuple[Owner, int]]:
    rank = len(owner.shape)
    left_out = {axis % rank for axis in without}
    return [(owner, axis) for axis in range(rank) if axis not in left_out]


def _product(*axes: list[tuple[Owner, int]], repeats: int = 1) -> Product:
    return Product(repeats, tuple(pair for group in axes for pair in group))


@_counts("Dense")
def _dense(call: Call) -> Iterable[Product]:
    yield _product(_every_axis(call.inputs[0], -1), _every_axis(call.operation.kernel))


@_counts("Conv1D", "Conv2D", "Conv3D", "DepthwiseConv1D", "DepthwiseConv2D")
def _convolution(call: Call) -> Iterable[Product]:
    yield _product(_positions(call, call.outputs[0]), _every_axis(call.operation.kernel))


@_counts("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def _transposed(call: Call) -> Iterable[Product]:
    yield _product(_positions(call, call.inputs[0]), _every_axis(call.operation.kernel))


@_counts("SeparableConv1D", "SeparableConv2D")
def _separable(call: Call) -> Iterable[Product]:
    for kernel in (call.operation.depthwise_kernel, call.operation.pointwise_kernel):
        yield _product(_positions(call, call.outputs[0]), _every_axis(kernel))


@_counts("EinsumDense")
def _einsum_dense(call: Call) -> Iterable[Product]:
    x, kernel = call.inputs[0], call.operation.kernel
    entering, weights, _ = einsum_specs(call.operation.equation, len(x.shape))
    passing = [(x, axis) for axis, letter in enumerate(entering) if letter not in weights]
    yield _product(passing, _every_axis(kernel))


@_counts("ops.Matmul")
def _matmul(call: Call) -> Iterable[Product]:
    if len(call.inputs) == 2 and len(call.inputs[1].shape) > 1:
        yield _product(_every_axis(call.outputs[0]), [(call.inputs[0], len(call.inputs[0].shape) - 1)])


@_counts("ops.Einsum")
def _einsum(call: Call) -> Iterable[Product]:
    terms = call.operation.subscripts.replace(" ", "").split("->")[0].split(",")
    if len(call.inputs) == len(terms) > 1 and "." not in call.operation.subscripts:
        places = {letter: (x, i) for term, x in zip(terms, call.inputs, strict=True) for i, letter in enumerate(term)}
        yield _product(list(places.values()))


@_counts("Dot")
def _dot(call: Call) -> Iterable[Product]:
    axes = call.operation.axes
    first = axes if isinstance(axes, int) else axes[0]
    x = call.inputs[0]
    yield _product(_every_axis(call.outputs[0]), [(x, first % len(x.shape))])


@_counts("ops.DotProductAttention")
def _dot_product_attention(call: Call) -> Iterable[Product]:
    query, key, value = call.inputs[:3]
    for x in (key, value):
        yield _product(_every_axis(query, -1), [(key, 1), (x, 3)])


@_counts("Attention", "AdditiveAttention")
def _attention(call: Call) -> Iterable[Product]:
    query, value = call.inputs[0], call.inputs[1]
    for _ in ("scores", "weighted sum"):
        yield _product(_every_axis(query), [(value, 1)])


@_counts("MultiHeadAttention", "GroupedQueryAttention")
def _multi_head_attention(call: Call) -> Iterable[Product]:
    layer = call.operation
    query, key, value = attended(call)
    target, source = _every_axis(query, -1), _every_axis(key, -1)
    inside = {"query": target, "key": source, "value": _every_axis(value, -1), "output": target}
    if getattr(layer, "use_gate", getattr(layer, "_use_gate", False)):
        inside["gate"] = target
    for name, positions in inside.items():
        yield _product(positions, _every_axis(getattr(layer, f"_{name}_dense").kernel))
    heads = (layer._query_dense.kernel, 1)
    for dense in (layer._query_dense, layer._value_dense):
        yield _product(target, source[1:], [heads, (dense.kernel, 2)])


@_counts("LSTM", "GRU", "SimpleRNN")
def _recurrent(call: Call) -> Iterable[Product]:
    cell = call.operation.cell
    for kernel in (cell.kernel, cell.recurrent_kernel):
        yield _product(_every_axis(call.inputs[0], -1), _every_axis(kernel))


@_counts("Bidirectional")
def _bidirectional(call: Call) -> Iterable[Product]:
    for layer in (call.operation.forward_layer, call.operation.backward_layer):
        yield from products(dataclasses.replace(call, operation=layer))


@_counts("TimeDistributed")
def _time_distributed(call: Call) -> Iterable[Product]:
    """The wrapped layer sees one step; all steps are counted."""
    steps = call.inputs[0].shape[1]
    inputs, outputs = (
        tuple(keras.KerasTensor((x.shape[0], *x.shape[2:]), dtype=x.dtype) for x in tensors)
        for tensors in (call.inputs, call.outputs)
    )
    inner = Call(call.operation.layer, inputs, {}, inputs, outputs)
    for product in products(inner):
        yield dataclasses.replace(product, repeats=product.repeats * steps)


def _positions(call: Call, tensor: keras.KerasTensor) -> list[tuple[Owner, int]]:
    return _every_axis(tensor, channel_axis(call.operation, len(tensor.shape)))
