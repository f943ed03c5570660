"""Looks at single tensors of a LiteRT file, in the interpreter's child process: nothing here imports TensorFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tfbig.measurement.activations import showing
from tfbig.measurement.flatbuffer import read_litert
from tfbig.measurement.signature import from_tensor, to_tensor


@dataclasses.dataclass(frozen=True)
class End:
    """What stands before one output of the file; scales are None for tensors that are float."""

    scale: float | None
    logits: int | None = None  # index of the tensor that goes into a last softmax
    logits_scale: float | None = None


def output_ends(path: str, outputs: int) -> list[End]:
    """The ends of a file's outputs, in the order of its signature."""
    file = read_litert(path)
    graph = file.graphs[0]
    producers = {t: op for op in graph.operations for t in op.outputs}
    tensors = {t.index: t for t in (*graph.outputs, *producers)}
    ends = []
    for number in range(outputs):
        tensor = tensors[file.output_names[f"output_{number}"]]
        operation = producers.get(tensor)
        if operation is not None and operation.type == "DEQUANTIZE":
            tensor = operation.inputs[0]
            operation = producers.get(tensor)
        scale = float(tensor.scales[0]) if tensor.scales.size else None
        before = operation.inputs[0] if operation is not None and operation.type == "SOFTMAX" else None
        if before is None or not before.scales.size:
            ends.append(End(scale))
        else:
            ends.append(End(scale, before.index, float(before.scales[0])))
    return ends


def values(path: str, inputs: dict[str, np.ndarray], wanted: Sequence[int | None]) -> list[np.ndarray]:
    """The real values of some tensors of the main graph, for each sample of `inputs`."""
    interpreter = Interpreter(model_content=showing(path, [index for index in wanted if index is not None]))
    interpreter.allocate_tensors()
    details = {d["index"]: d for d in interpreter.get_tensor_details()}
    index_of = read_litert(path).input_names
    rows: list[list[np.ndarray]] = []
    for sample in range(len(next(iter(inputs.values())))):
        for name, array in inputs.items():
            detail = details[index_of[name]]
            interpreter.set_tensor(detail["index"], to_tensor(array[sample : sample + 1], detail))
        interpreter.invoke()
        rows.append([_real(interpreter, details, index) for index in wanted])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _real(interpreter: Interpreter, details: dict, index: int | None) -> np.ndarray:
    if index is None:
        return np.zeros((1, 0), "float32")
    return from_tensor(interpreter.get_tensor(index), details[index])
