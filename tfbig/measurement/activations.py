"""The tensors between the operations of a LiteRT file, as real numbers; runs in the interpreter's child process."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tfbig.errors import InvalidFile
from tfbig.exporters.packing import pack, unpack
from tfbig.measurement.flatbuffer import LiteRTFile, read_litert
from tfbig.measurement.signature import Inputs, arrange_inputs, check_shapes, from_tensor, to_tensor

_ABOUT = ("QUANTIZE", "DEQUANTIZE")  # They change how a number is written, not what it is.


@dataclasses.dataclass(frozen=True)
class Activation:
    """The first output of one operation of the main graph, for one sample."""

    name: str
    type: str  # of the operation
    dtype: str
    step: float | None  # the width of a quantization step, for integers
    values: np.ndarray


def activations(path: str, inputs: Inputs) -> list[Activation]:
    """What each operation of a file gives for one sample, in the order of computation, integers dequantized."""
    return _load(path, Path(path).stat().st_mtime_ns).run(inputs)


def showing(path: str, tensors: Sequence[int]) -> bytes:
    """The file with other outputs: some tensors of its main graph.

    LiteRT's default kernels (XNNPACK) keep no tensor but the outputs.
    """
    model = unpack(Path(path).read_bytes())
    model.subgraphs[0].outputs = np.array(tensors, np.int32)
    model.signatureDefs = []
    return pack(model)


@functools.lru_cache(maxsize=2)
def _load(path: str, version: int) -> _Watched:
    # `version` makes a file that was written anew a new key.
    return _Watched(path)


class _Watched:
    """A file in an interpreter that gives out what each operation computes."""

    def __init__(self, path: str):
        self.file: LiteRTFile = read_litert(path)
        operations = [op for op in self.file.graphs[0].operations if op.outputs and op.type not in _ABOUT]
        firsts = [(op.type, op.outputs[0]) for op in operations]
        self.wanted = [(kind, tensor.index) for kind, tensor in firsts if tensor.is_float or tensor.scales.size == 1]
        try:
            self.interpreter = Interpreter(model_content=showing(path, [index for _, index in self.wanted]))
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise InvalidFile(
                f"LiteRT cannot run `{path}` operation by operation: {' '.join(str(error).split())}. Export it again "
                "with sparse=False and with more calibration data."
            ) from error
        self.details = {detail["index"]: detail for detail in self.interpreter.get_output_details()}

    def run(self, inputs: Inputs) -> list[Activation]:
        ends = self.interpreter.get_input_details()
        arrays = arrange_inputs(self.file, ends, inputs)
        check_shapes(self.file, ends, arrays)
        for detail, array in zip(ends, arrays, strict=True):
            self.interpreter.set_tensor(detail["index"], to_tensor(array, detail))
        self.interpreter.reset_all_variables()
        self.interpreter.invoke()
        return [self._read(kind, index) for kind, index in self.wanted]

    def _read(self, kind: str, index: int) -> Activation:
        detail: dict[str, Any] = self.details[index]
        values = from_tensor(self.interpreter.get_tensor(index), detail)
        scale = float(detail["quantization"][0]) or None
        return Activation(detail["name"], kind, np.dtype(detail["dtype"]).name, scale, np.asarray(values, "float32"))
