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
from keras import tree

from tfbig.compression.native.graph import Graph, Step

_LINEAR = {
    "Dense", "EinsumDense", "Conv1D", "Conv2D", "DepthwiseConv1D", "DepthwiseConv2D", "Conv1DTranspose",
    "Conv2DTranspose", "Conv", "DepthwiseConv", "ConvTranspose",
}  # fmt: skip
_MATRIX = {"Matmul", "Einsum", "Dot", "Tensordot"}  # linear when one side is a weight
_ARITHMETIC = {"Add", "Subtract", "Multiply"}
_SAME_SCALE = {
    "Reshape", "Flatten", "Permute", "RepeatVector", "Dropout", "SpatialDropout1D", "SpatialDropout2D",
    "SpatialDropout3D", "AlphaDropout", "GaussianDropout", "GaussianNoise", "ActivityRegularization", "Masking",
    "ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "MaxPooling1D", "MaxPooling2D", "MaxPool",
    "UpSampling1D", "Identity", "Transpose", "Squeeze", "ExpandDims", "GetItem", "Pad", "Split", "Repeat", "Tile",
    "BroadcastTo", "Slice", "SwapAxes", "Moveaxis", "Take", "Unstack",
}  # fmt: skip
_SAME_SCALE_ROUNDED = {"AveragePooling1D", "AveragePooling2D", "AveragePool", "UpSampling2D", "Resizing"}
# Ranges that LiteRT's int8 kernels prescribe: scale 1/256 or 1/128 and the zero point at an end or in the middle.
_FIXED = {"softmax": (0.0, 255 / 256), "sigmoid": (0.0, 255 / 256), "tanh": (-1.0, 127 / 128)}


@dataclasses.dataclass(frozen=True)
class Point:
    """A place where values are rounded."""

    index: int | None  # row in the machine's ranges; None for a fixed range
    fixed: tuple[float, float] | None = None
    observed: bool = True  # False: uses the range of another point


@dataclasses.dataclass(frozen=True)
class Plan:
    """All points of a graph.

    `by_tensor` maps the id of a symbolic tensor to its point, `scale_of` those to the same that share an earlier
    tensor's scale and are not rounded again, `inside_norm` the id of a free-standing
    BatchNormalization's output to the point between its multiplication and its addition, and `folded` the id of a
    BatchNormalization's output to the step whose weights take it up.
    """

    by_tensor: dict[int, Point]
    scale_of: dict[int, Point]
    inside_norm: dict[int, Point]
    folded: dict[int, Step]
    outputs: frozenset[int]
    size: int
    names: tuple[str, ...]  # of the observed ranges, for reports


def plan(graph: Graph) -> Plan:
    """Decides where `graph` is rounded."""
    return _Planner(graph).plan()


def kind_of(step: Step) -> str:
    """What a step is to quantization: linear, bias, norm, relu, arithmetic, same_scale, fixed, ... or other."""
    name = _activation_name(step.operation) or type(step.operation).__name__
    tensors = len(step.inputs)
    if name in _LINEAR or (name in _MATRIX and tensors == 1):
        return "linear"
    if name == "BatchNormalization":
        return "norm"
    if name in ("relu", "relu6", "Relu", "Relu6") or _is_plain_relu(step.operation):
        return "relu"
    if name in _ARITHMETIC:
        return "bias" if name == "Add" and tensors == 1 else "arithmetic"
    if (
        name in _SAME_SCALE
        or name.startswith("Random")
        or name == "linear"
        or _is_identity_at_inference(step.operation)
    ):
        return "same_scale"
    if name in _SAME_SCALE_ROUNDED:
        return "same_scale_rounded"
    return "fixed" if name.lower() in _FIXED else "other"


class _Planner:
    def __init__(self, graph: Graph):
        self.graph = graph
        self.consumers: dict[int, list[Step]] = defaultdict(list)
        self.producer: dict[int, Step] = {}
        for step in graph.steps:
            for tensor in step.inputs:
                self.consumers[tensor].append(step)
            for tensor in step.outputs:
                self.producer[tensor] = step
        self.outputs = frozenset(id(x) for x in tree.flatten(graph.outputs))
        self.points: dict[int, Point] = {}
        self.inside: dict[int, Point] = {}
        self.folded: dict[int, Step] = {}
        self.fused: set[int] = set()
        self.scale_of: dict[int, Point] = {}
        self.names: list[str] = []

    def plan(self) -> Plan:
        for symbol in self.graph.inputs:
            if _is_float(symbol):
                self.observe(id(symbol), symbol.name)
        for step in self.graph.steps:
            kind = kind_of(step)
            for tensor in step.outputs:
                if _is_float(self.graph.tensors[tensor]):
                    self.place(step, kind, tensor)
        return Plan(
            self.points,
            self.scale_of,
            self.inside,
            self.folded,
            self.outputs,
            len(self.names),
            tuple(self.names),
        )

    def place(self, step: Step, kind: str, tensor: int) -> None:
        if kind == "norm":
            before = self.producer.get(step.inputs[0])
            if before is not None and step.inputs[0] in self.fused:
                self.folded[tensor] = before
            else:
                self.inside[tensor] = self.new_point(f"{step.name}/scaled")
        if self.fuses_into_next(step, kind, tensor):
            self.fused.add(tensor)
            return
        source = self.scale_of.get(step.inputs[0]) if step.inputs else None
        if kind == "same_scale" and source is not None:
            self.scale_of[tensor] = source
        elif kind == "same_scale_rounded" and source is not None:
            self.points[tensor] = self.scale_of[tensor] = dataclasses.replace(source, observed=False)
        elif kind == "fixed":
            name = (_activation_name(step.operation) or type(step.operation).__name__).lower()
            self.points[tensor] = self.scale_of[tensor] = Point(None, _FIXED[name])
        else:
            self.observe(tensor, step.name)

    def fuses_into_next(self, step: Step, kind: str, tensor: int) -> bool:
        """Whether LiteRT computes this tensor's only consumer in the same op, so that the tensor never exists."""
        consumers = self.consumers[tensor]
        if tensor in self.outputs or len(consumers) != 1:
            return False
        after = kind_of(consumers[0])
        behind_linear = kind == "linear" or (kind in ("bias", "norm") and step.inputs[0] in self.fused)
        if after == "relu":
            return behind_linear or kind in ("arithmetic", "bias", "norm")
        return (kind == "linear" and after in ("bias", "norm")) or (
            kind == "bias" and behind_linear and after == "norm"
        )

    def observe(self, tensor: int, name: str) -> None:
        self.points[tensor] = self.scale_of[tensor] = self.new_point(name)

    def new_point(self, name: str) -> Point:
        self.names.append(name)
        return Point(len(self.names) - 1)


def _is_float(symbol: Any) -> bool:
    return "float" in str(symbol.dtype)


def _activation_name(operation: Any) -> str | None:
    function = getattr(operation, "activation", None) if isinstance(operation, keras.layers.Activation) else None
    return getattr(function, "__name__", None)


def _is_plain_relu(operation: Any) -> bool:
    if type(operation).__name__ != "ReLU":
        return False
    slope = getattr(operation, "negative_slope", 0.0)
    return not slope and not getattr(operation, "threshold", 0.0) and operation.max_value in (None, 6, 6.0)


def _is_identity_at_inference(operation: Any) -> bool:
    return type(operation).__name__ in ("StochasticDepth", "DropPath", "GaussianNoise")
