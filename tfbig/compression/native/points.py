"""Where a flat graph is quantized: the tensors that an int8 LiteRT file will hold.

LiteRT computes a convolution, its bias, the BatchNormalization behind it and a ReLU as one op, whose inner tensors
never exist; pooling, reshaping and padding hand on their input's scale; softmax and the like have scales fixed by the
runtime. All other tensors get a range of their own. The rules follow AI Edge Quantizer, which writes the file.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree

from tfbig.compression.native.affine import is_affine
from tfbig.compression.native.steps import Graph, Step

_LINEAR = {
    "Dense", "EinsumDense", "Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "Conv1DTranspose",
    "Conv2DTranspose", "Conv", "DepthwiseConv", "ConvTranspose",
}  # fmt: skip
_FOLDABLE_OPS = {"Conv", "DepthwiseConv"}  # of `keras.ops`, whose weights are arguments
MATRIX = {"Matmul", "Einsum", "Dot", "Tensordot"}  # linear when one side is a weight
_ARITHMETIC = {"Add", "Subtract", "Multiply"}
_SAME_SCALE = {
    "Reshape", "Flatten", "Permute", "RepeatVector", "Dropout", "SpatialDropout1D", "SpatialDropout2D",
    "SpatialDropout3D", "AlphaDropout", "GaussianDropout", "GaussianNoise", "StochasticDepth", "DropPath",
    "ActivityRegularization", "Masking", "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "CenterCrop",
    "MaxPooling1D", "MaxPooling2D", "MaxPool", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D", "Max",
    "Min", "UpSampling1D", "Identity", "Transpose", "Squeeze", "ExpandDims", "GetItem", "Pad", "Split", "Repeat",
    "Tile", "BroadcastTo", "Slice", "Cast", "SwapAxes", "Moveaxis", "Take", "Unstack", "linear",
}  # fmt: skip
_SAME_SCALE_ROUNDED = {"AveragePooling1D", "AveragePooling2D", "AveragePool", "UpSampling2D", "Resizing"}
_GATHERED = {"Concatenate", "Maximum", "Minimum", "Where", "Stack"}  # their inputs get the scale of their output
_LOOKED_UP = {"Embedding", "ReversibleEmbedding"}  # rows of a table, whose scale they have
_TAKES_INDICES = {*_LOOKED_UP, "OneHot", "CategoryEncoding", "IntegerLookup", "Hashing", "Discretization"}
# Ranges that LiteRT's int8 kernels prescribe: scale 1/256 or 1/128 and the zero point at an end or in the middle.
_FIXED = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}


@dataclasses.dataclass(frozen=True)
class Point:
    """A place where values are rounded."""

    index: int | None  # row in the machine's ranges; None for a fixed range
    fixed: tuple[float, float] | None = None
    observed: bool = True  # False: uses the range of another point
    factor: float = 1.0  # what the range is multiplied with
    ties_away: bool = False  # LiteRT's average pooling rounds ties away from the integer 0, all else up

    def bounds(self, low: Any, high: Any) -> tuple[Any, Any]:
        """The range here, from the one in the machine's row."""
        if self.factor >= 0:
            return low * self.factor, high * self.factor
        return high * self.factor, low * self.factor


FLOAT_BY_CHOICE = ("LayerNormalization", "GroupNormalization", "RMSNormalization", "UnitNormalization")


@dataclasses.dataclass(frozen=True)
class Plan:
    """All points of a graph.

    `by_tensor` maps the id of a symbolic tensor to its point, `scale_of` those to the same that share an earlier
    tensor's scale and are not rounded again, and `folded` the id of a BatchNormalization's output to the step whose
    weights take it up. `with_constants` are the outputs of steps whose weights the file holds like activations.
    """

    by_tensor: dict[int, Point]
    scale_of: dict[int, Point]
    folded: dict[int, Step]
    with_constants: frozenset[int]
    outputs: frozenset[int]
    size: int
    names: tuple[str, ...]  # of the observed ranges, for reports


def plan(graph: Graph, floats: frozenset[int] = frozenset()) -> Plan:
    """Decides where `graph` is rounded.

    Args:
        floats: operations, by id, that gather nothing into one scale, for they compute in float.
    """
    return _Planner(graph, floats).plan()


def float_steps(graph: Graph, plan: Plan, exempt: frozenset[int]) -> frozenset[int]:
    """The steps, by id, that the file computes in float; what is fused with a float operation belongs to it."""
    fused: set[int] = set()
    found: set[int] = set()
    for step in graph.steps:
        chosen = type(step.operation).__name__ in FLOAT_BY_CHOICE or id(step.operation) in exempt
        goes_on = bool(step.inputs) and step.inputs[0] in fused and step.inputs[0] not in plan.scale_of
        if chosen or goes_on:
            found.add(id(step))
        if goes_on or (chosen and kind_of(step) == "linear"):
            fused.update(step.outputs)
    return frozenset(found)


def between_floats(graph: Graph, floats: frozenset[int]) -> frozenset[int]:
    """The tensors that the file never has as integers: float steps hand them on to each other.

    The model's inputs come from a float operation in this sense, and its outputs go to one.
    """
    made = {tensor for step in graph.steps if id(step) in floats for tensor in step.outputs}
    taken = {tensor for step in graph.steps if id(step) not in floats for tensor in step.inputs}
    return frozenset(made | {id(x) for x in graph.inputs}) - taken


def kind_of(step: Step) -> str:
    """What a step is to quantization: linear, bias, norm, relu, arithmetic, same_scale, fixed, ... or other."""
    name = name_of(step.operation)
    if name in _LINEAR or (name in MATRIX and len(step.inputs) == 1):
        return "linear"
    if name in ("BatchNormalization", "Normalization"):
        return "norm" if is_affine(step.operation, len(step.arguments.keras_tensors[0].shape)) else "other"
    if name in ("relu", "relu6", "Relu", "Relu6"):
        return "relu"
    if name == "ReLU" and not step.operation.threshold and not step.operation.negative_slope:
        return "relu"
    if factor_of(step) is not None:
        return "scaled"
    if name in _ARITHMETIC:
        return "bias" if name == "Add" and len(step.inputs) == 1 else "arithmetic"
    if name in _SAME_SCALE or name.startswith("Random"):
        return "same_scale"
    if name in _SAME_SCALE_ROUNDED:
        return "same_scale_rounded"
    if name in _GATHERED:
        return "same_scale" if _hides_with_zeros(step) else "gathered"
    if name in _LOOKED_UP:
        return "looked_up"
    return "fixed" if name.lower() in _FIXED else "other"


def is_plain_relu(step: Step) -> bool:
    """Whether a step is a ReLU without an upper end."""
    name = name_of(step.operation)
    return name in ("relu", "Relu") or (name == "ReLU" and step.operation.max_value is None and kind_of(step) == "relu")


def is_leaky_relu(step: Step) -> bool:
    """Whether a step is a ReLU layer with a slope below 0, and nothing else."""
    layer = step.operation
    plain = isinstance(layer, keras.layers.ReLU) and layer.max_value is None and not layer.threshold
    return plain and bool(layer.negative_slope)


def factor_of(step: Step) -> float | None:
    """The plain number that a step multiplies its input with: the integers stay the same, their scale changes.

    It is 1 where 0 is added, as the layer Rescaling does that has no offset.
    """
    name, args = name_of(step.operation), step.arguments.args
    if name not in ("Multiply", "Divide", "TrueDivide", "Add", "Subtract") or len(args) != 2 or step.arguments.kwargs:
        return None
    numbers = [plain_number(value) for value in args]
    if name in ("Add", "Subtract"):
        return 1.0 if numbers[1] == 0 or (name == "Add" and numbers[0] == 0) else None
    known = [number for number in numbers if number]
    if len(known) != 1 or (name != "Multiply" and numbers[0]):
        return None
    return known[0] if name == "Multiply" else 1.0 / known[0]


def plain_number(value: Any) -> float | None:
    """A number, or a constant tensor of one element, which Keras makes of the numbers inside its layers."""
    if isinstance(value, np.ndarray | np.generic | tf.Tensor) and len(value.shape) == 0:
        value = np.asarray(value).item()
    return float(value) if isinstance(value, int | float) else None


class _Planner:
    def __init__(self, graph: Graph, floats: frozenset[int]):
        self.graph, self.floats = graph, floats
        self.consumers: dict[int, list[Step]] = defaultdict(list)
        self.producer: dict[int, Step] = {}
        for step in graph.steps:
            for tensor in step.inputs:
                self.consumers[tensor].append(step)
            for tensor in step.outputs:
                self.producer[tensor] = step
        self.outputs = frozenset(id(x) for x in tree.flatten(graph.outputs))
        self.points: dict[int, Point] = {}
        self.folded: dict[int, Step] = {}
        self.fused: set[int] = set()
        self.scale_of: dict[int, Point] = {}
        self.with_constants: set[int] = set()
        self.looked_up: set[int] = set()  # rows of a table of weights, rounded as that is
        self.adopted: dict[int, int] = {}  # tensors that are written with the scale of another
        self.names: list[str] = []

    def plan(self) -> Plan:
        for symbol in self.graph.inputs:
            if _is_float(symbol) and not self.is_index(id(symbol)):
                self.observe(id(symbol), symbol.name)
        for step in self.graph.steps:
            self.place_all(step)
        self.scale_of.update((tensor, self.scale_of[other]) for tensor, other in self.adopted.items())
        with_constants = frozenset(self.with_constants)
        return Plan(
            self.points, self.scale_of, self.folded, with_constants, self.outputs, len(self.names), tuple(self.names)
        )

    def place_all(self, step: Step) -> None:
        if not step.inputs:
            return  # Computed from weights alone: a constant of the file.
        kind = kind_of(step)
        for tensor in step.outputs:
            if _is_float(self.graph.tensors[tensor]) and not self.is_index(tensor):
                self.place(step, kind, tensor)

    def place(self, step: Step, kind: str, tensor: int) -> None:
        if kind == "norm" and step.inputs[0] in self.fused:
            self.folded[tensor] = self.producer[step.inputs[0]]
        if kind == "arithmetic" or (kind == "bias" and step.inputs[0] not in self.fused):
            self.with_constants.add(tensor)
        if self.fuses_into_next(step, kind, tensor):
            self.fused.add(tensor)
            return
        if kind == "looked_up" or (kind == "same_scale" and self.main_input(step) in self.looked_up):
            self.looked_up.add(tensor)
            return
        if self.adopts_scale(kind, tensor):
            gathering = next(step for step in self.consumers[tensor] if kind_of(step) == "gathered")
            self.adopted[tensor] = gathering.outputs[0]
            return
        source = self.scale_of.get(self.main_input(step))
        if kind == "same_scale" and source is not None:
            self.scale_of[tensor] = source
        elif kind == "scaled" and source is not None and (source.fixed is None or factor_of(step) == 1.0):
            factor = factor_of(step)
            assert factor is not None
            self.scale_of[tensor] = dataclasses.replace(source, factor=source.factor * factor)
        elif kind == "same_scale_rounded" and source is not None:
            self.points[tensor] = self.scale_of[tensor] = dataclasses.replace(
                source, observed=False, ties_away=name_of(step.operation).startswith("Average")
            )
        elif kind == "fixed":
            self.points[tensor] = self.scale_of[tensor] = Point(None, _FIXED[name_of(step.operation).lower()])
        else:
            self.observe(tensor, step.name)

    def fuses_into_next(self, step: Step, kind: str, tensor: int) -> bool:
        """Whether LiteRT computes this tensor's only consumer in the same op, so that the tensor never exists."""
        consumers = self.consumers[tensor]
        # Several ReLUs of one tensor are one op of the file.
        if tensor in self.outputs or len({is_plain_relu(step) or id(step) for step in consumers}) != 1:
            return False
        after = kind_of(consumers[0])
        behind_linear = kind == "linear" or (kind in ("bias", "norm") and step.inputs[0] in self.fused)
        if after == "relu":
            is_image = len(self.graph.tensors[tensor].shape) == 4
            return behind_linear or kind in ("arithmetic", "bias") or (kind == "norm" and is_image)
        if after == "norm":
            return self.takes_scale(step, kind)
        return kind == "linear" and after == "bias"

    def takes_scale(self, step: Step, kind: str) -> bool:
        """Whether the weights of a linear step, or of the one before its bias, have one channel for each output."""
        if kind == "bias" and step.inputs[0] in self.fused:
            step = self.producer[step.inputs[0]]
        elif kind != "linear":
            return False
        name = name_of(step.operation)
        if name in _FOLDABLE_OPS:
            kernel = step.arguments.args[1]
            return isinstance(kernel, keras.Variable) or id(kernel) in self.graph.weights
        return (
            name in _LINEAR
            and name != "EinsumDense"
            and getattr(step.operation, "data_format", None) != "channels_first"
        )

    def main_input(self, step: Step) -> int:
        """The input that a step hands on: its first real one."""
        return next((tensor for tensor in step.inputs if _is_float(self.graph.tensors[tensor])), step.inputs[0])

    def adopts_scale(self, kind: str, tensor: int) -> bool:
        """Whether an op writes its result in the scale of what its consumer gathers it into."""
        if kind in ("same_scale", "same_scale_rounded", "scaled", "fixed", "gathered", "looked_up"):
            return False
        gathering = [step for step in self.consumers[tensor] if name_of(step.operation) != "Min"]
        if any(id(step.operation) in self.floats for step in gathering):
            return False
        return [kind_of(step) for step in gathering] == ["gathered"] and tensor not in self.outputs

    def is_index(self, tensor: int) -> bool:
        """Whether the tensor holds whole numbers that only choose something."""
        consumers = self.consumers[tensor]
        return bool(consumers) and all(name_of(step.operation) in _TAKES_INDICES for step in consumers)

    def observe(self, tensor: int, name: str) -> None:
        self.names.append(name)
        self.points[tensor] = self.scale_of[tensor] = Point(len(self.names) - 1)


def _hides_with_zeros(step: Step) -> bool:
    """Whether a step replaces some entries by 0, which every range has."""
    return name_of(step.operation) == "Where" and any(
        isinstance(value, int | float) and value == 0 for value in step.arguments.args
    )


def _is_float(symbol: Any) -> bool:
    return "float" in str(symbol.dtype)


def name_of(operation: Any) -> str:
    function = getattr(operation, "activation", None) if isinstance(operation, keras.layers.Activation) else None
    return getattr(function, "__name__", None) or type(operation).__name__
