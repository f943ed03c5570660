"""The layers with weights of a float LiteRT file, whose weights and biases can be changed; in the child process."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tfbig.exporters.packing import kind_of, pack, unpack
from tfbig.exporters.tensor_ranges import activations

Samples = Sequence[dict[str, np.ndarray]]
_OUT_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
_ACTIVATIONS = {0: "none", 1: "relu", 3: "relu6"}


@dataclasses.dataclass(eq=False)
class Layer:
    """A convolution, depthwise convolution or fully connected layer.

    `weights` and `bias` are those of a network that computes what the model computes. What is written for them is
    `chosen_weights` and `chosen_bias`, once a repair has set these.

    Weights are `(out, height, width, in)`, `(1, height, width, channels)` or `(out, in)`.
    """

    kind: str
    source: str  # name of the tensor it reads
    result: str  # name of the tensor it makes
    weights: np.ndarray
    bias: np.ndarray | None
    activation: str
    options: Any  # strides, dilations and padding
    buffers: tuple[int, int | None]  # of weights and bias
    chosen_weights: np.ndarray | None = None
    chosen_bias: np.ndarray | None = None

    @property
    def out_axis(self) -> int:
        return _OUT_AXIS[self.kind]

    def rounded(self, bits: int) -> np.ndarray:
        """The weights as they will be stored: one symmetric scale for each output channel."""
        if self.chosen_weights is not None:
            return self.chosen_weights
        scale = self.scale(bits)
        return np.round(self.weights / scale) * scale

    def scale(self, bits: int) -> np.ndarray:
        """The step of each output channel, with the axes of the weights."""
        others = tuple(axis for axis in range(self.weights.ndim) if axis != self.out_axis)
        largest = np.max(np.abs(self.weights), axis=others, keepdims=True)
        return np.maximum(largest, 1e-12) / self.largest_level(bits)

    def largest_level(self, bits: int) -> int:
        """The largest integer; depthwise weights have 8 bits at least."""
        return 2 ** ((8 if self.kind == "DEPTHWISE_CONV_2D" else bits) - 1) - 1

    def constants(self, *, exact: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Weights and bias: those of the model, or those that are written."""
        weights = self.weights if exact or self.chosen_weights is None else self.chosen_weights
        return weights, self.bias if exact or self.chosen_bias is None else self.chosen_bias


class FloatFile:
    """A float file; its layers in the order of computation, those left out that share weights with another."""

    def __init__(self, content: bytes):
        self.model = unpack(content)
        graph = self.model.subgraphs[0]
        readers = Counter(i for op in graph.operators for i in op.inputs if i >= 0)
        self.uses = {t.name.decode(): readers[i] for i, t in enumerate(graph.tensors)}
        for index in graph.outputs:
            self.uses[graph.tensors[index].name.decode()] += 1
        buffers = Counter(tensor.buffer for tensor in graph.tensors)
        self.layers = [
            layer
            for op in graph.operators
            if (layer := self._layer(op)) is not None
            and all(buffers[b] == 1 for b in layer.buffers if b is not None)
            and readers[op.inputs[1]] == 1
        ]

    def pack(self, *, exact: bool = False) -> bytes:
        """The file with the weights and biases that the repairs have chosen, or else with exact ones."""
        for layer in self.layers:
            for buffer, values in zip(layer.buffers, layer.constants(exact=exact), strict=True):
                if buffer is not None and values is not None:
                    self.model.buffers[buffer].data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
        return pack(self.model)

    def pairs(self) -> Iterator[tuple[Layer, Layer]]:
        """Layers of which the second is all that reads the first."""
        by_source: dict[str, Layer] = {layer.source: layer for layer in self.layers}
        for layer in self.layers:
            after = by_source.get(layer.result)
            if after is not None and self.uses[layer.result] == 1:
                yield layer, after

    def values(self, samples: Samples, *, exact: bool = True) -> Iterator[dict[str, np.ndarray]]:
        """The activations for each sample, by name, of the exact network or of that with the chosen weights."""
        content = self.pack(exact=exact)
        for sample in samples:
            yield dict(activations(content, sample))

    def _layer(self, op: Any) -> Layer | None:
        kind = kind_of(self.model, op)
        if kind not in _OUT_AXIS:
            return None
        weights, weights_buffer = self._constant(op.inputs[1])
        bias, bias_buffer = self._constant(op.inputs[2]) if len(op.inputs) > 2 and op.inputs[2] >= 0 else (None, None)
        activation = _ACTIVATIONS.get(op.builtinOptions.fusedActivationFunction)
        if weights is None or weights_buffer is None or activation is None:
            return None
        source, result = self._name(op.inputs[0]), self._name(op.outputs[0])
        buffers = (weights_buffer, bias_buffer)
        return Layer(kind, source, result, weights, bias, activation, op.builtinOptions, buffers)

    def _constant(self, index: int) -> tuple[np.ndarray | None, int | None]:
        tensor = self.model.subgraphs[0].tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.FLOAT32 or data is None or not len(data):
            return None, None
        return np.frombuffer(bytes(data), "<f4").reshape(tensor.shape).astype("float64"), tensor.buffer

    def _name(self, index: int) -> str:
        return self.model.subgraphs[0].tensors[index].name.decode()
