"""Quantizes a float ONNX file to int8 in the QDQ format with ONNX Runtime's tools, in the child process.

The ranges come from training, matched to the file's tensors by value as for LiteRT, or from running the float file on
data. ONNX holds images with the channels first, so a tensor is compared with the model's in either layout.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import QuantType, quant_pre_process
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

from tfbig.exporters.onnx_session import session_of
from tfbig.exporters.tensor_ranges import Learned, Range, ValueIndex

Inputs = Mapping[str, np.ndarray]
_SAME_SCALE = {"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MaxPool", "Identity"}
_KINDS = {*QDQRegistry, *QLinearOpsRegistry}
# The inputs that need a range of their own; the first one of all other operations.
_OPERANDS = {**dict.fromkeys(("Add", "Sub", "Mul", "Div", "MatMul", "Max", "Min"), slice(0, 2)), "Where": slice(1, 3)}
_TAKES_UP = {"Relu", "Clip"}  # what the op before them is computed together with


def quantize(
    model: Any,
    *,
    learned: Sequence[Learned] = (),
    probe: Inputs | None = None,
    samples: Iterable[Inputs] = (),
    float_layers: Mapping[str, str] | None = None,
    symmetric: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Returns the model with QuantizeLinear and DequantizeLinear nodes, and which of its nodes stayed float and why.

    Args:
        learned: the values at the quantized points of the Keras model for `probe`, with range and scope of each.
        samples: inputs by name, to observe ranges on where nothing was learned.
        float_layers: scopes of nodes that are to stay float, and the reason.
        symmetric: zero points of 0, which TensorRT asks for.
    """
    model = _prepared(model)
    ranges = _match(model, probe, learned) if probe is not None and learned else _observe(model, samples)
    _complete(model, ranges)
    floats = {
        node.name: why for node in model.graph.node if (why := _why_float(node, model, ranges, float_layers or {}))
    }
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(
            CalibrationMethod.MinMax,
            {name: (np.array(low, "float32"), np.array(high, "float32")) for name, (low, high) in ranges.items()},
        ),
        nodes_to_quantize=[],
        nodes_to_exclude=list(floats),
        op_types_to_quantize=sorted(_KINDS),
        extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    reasons = {name: why for name, why in floats.items() if why != _ABOUT_SHAPES}
    return quantizer.model.model, {"quantization": "int8", "float_ops": reasons}


_ABOUT_SHAPES = "it computes shapes"


def _prepared(model: Any) -> Any:
    """The model with constants folded, biases taken into convolutions, and every node named."""
    with tempfile.TemporaryDirectory(prefix="tfbig-onnx-") as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        onnx.save(model, before)
        quant_pre_process(before, after, skip_symbolic_shape=True)
        prepared = onnx.load(after)
    for number, node in enumerate(prepared.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return prepared


def _tensors(model: Any, inputs: Inputs) -> dict[str, np.ndarray]:
    """Every real tensor of the graph for one set of inputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    shown = {output.name for output in watched.graph.output}
    names = [name for node in watched.graph.node for name in node.output if name and name not in shown]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = session_of(watched.SerializeToString())
    outputs = [output.name for output in session.get_outputs()]
    values = dict(zip(outputs, session.run(outputs, dict(inputs)), strict=True))
    values.update(inputs)
    return {name: value for name, value in values.items() if value.dtype == np.float32}


def _match(model: Any, probe: Inputs, learned: Sequence[Learned]) -> dict[str, Range]:
    index = ValueIndex([value for value, _, _ in learned])
    ranges: dict[str, Range] = {}
    for name, value in _tensors(model, probe).items():
        layouts = [value, np.moveaxis(value, 1, -1)] if value.ndim > 2 else [value]
        found = [close for layout in layouts if (close := index.equal_to(layout))]
        if found:
            ranges[name] = learned[found[0][0]][1]
    return ranges


def _observe(model: Any, samples: Iterable[Inputs]) -> dict[str, Range]:
    ranges: dict[str, Range] = {}
    for inputs in samples:
        for name, value in _tensors(model, inputs).items():
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = (min(low, float(value.min())), max(high, float(value.max())))
    return ranges


def _complete(model: Any, ranges: dict[str, Range]) -> None:
    """Adds the ranges that nodes hand on to their outputs, or that the node behind them hands back."""
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in model.graph.node:
        if node.op_type in _SAME_SCALE and node.input[0] in ranges:
            ranges.setdefault(node.output[0], ranges[node.input[0]])
    for node in reversed(model.graph.node):
        behind = readers.get(node.output[0], [])
        if len(behind) == 1 and behind[0].op_type in _TAKES_UP and behind[0].output[0] in ranges:
            ranges[node.output[0]] = ranges[behind[0].output[0]]


def _why_float(node: Any, model: Any, ranges: Mapping[str, Range], float_layers: Mapping[str, str]) -> str | None:
    constants = {tensor.name for tensor in model.graph.initializer}
    activations = [name for name in (*node.input, *node.output) if name and name not in constants]
    for path, reason in float_layers.items():
        if any(f"/{path}/" in f"/{name}" for name in (node.name, *node.output)):
            return reason
    if not any(name in ranges for name in activations):
        return _ABOUT_SHAPES
    if node.op_type not in _KINDS:
        return f"ONNX Runtime has no quantized form of {node.op_type}"
    operands = node.input[_OPERANDS.get(node.op_type, slice(0, 1))]
    if any(name not in ranges for name in (node.output[0], *(n for n in operands if n not in constants))):
        return "the range of one of its tensors is not known: no tensor of the Keras model has the same values"
    return None
