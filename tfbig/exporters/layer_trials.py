"""How much an output suffers when only some ops of a file are quantized; runs in the child process."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tfbig.exporters.litert_quantization import quantize_only
from tfbig.exporters.packing import unpack
from tfbig.exporters.tensor_ranges import Range, observe

_LEVELS = {schema.TensorType.INT8: (-128, 127), schema.TensorType.INT16: (-32768, 32767)}


def output_noise(
    float_file: str,
    quantized_file: str,
    *,
    scheme: str,
    selections: Sequence[Collection[str]],
    samples: Sequence[dict[str, np.ndarray]],
) -> list[dict[str, float]]:
    """For each selection of ops: the noise in the outputs when these alone are quantized, and the bytes of that file.

    Args:
        float_file: the model as a float LiteRT file.
        quantized_file: the file whose ranges are used; what it does not tell is observed on `samples`.
        scheme: as of `litert_quantization.quantize`.
        selections: names of ops of the float file.
        samples: inputs by name.

    Returns:
        `noise`, the mean over the outputs of the noise power divided by the signal power, and `bytes`.
    """
    content = Path(float_file).read_bytes()
    ranges = {**observe(content, samples), **stored_ranges(Path(quantized_file).read_bytes())}
    expected = _outputs(content, samples)
    results = []
    for ops in selections:
        quantized = quantize_only(content, scheme=scheme, ranges=ranges, ops=ops)
        results.append({"noise": _noise(expected, _outputs(quantized, samples)), "bytes": len(quantized)})
    return results


def stored_ranges(content: bytes) -> dict[str, Range]:
    """The range of every integer activation of a file, by the name that the float file has for it."""
    model = unpack(content)
    found: dict[str, Range] = {}
    for tensor in model.subgraphs[0].tensors:
        scale = _scale(tensor)
        if tensor.type in _LEVELS and scale is not None and not _is_constant(model, tensor):
            low, high = _LEVELS[tensor.type]
            zero = int(tensor.quantization.zeroPoint[0])
            name = tensor.name.decode().removesuffix("_quantized")
            found[name] = ((low - zero) * scale, (high - zero) * scale)
    return found


def _scale(tensor: Any) -> float | None:
    scales = tensor.quantization.scale if tensor.quantization else None
    return float(scales[0]) if scales is not None and len(scales) == 1 else None


def _is_constant(model: Any, tensor: Any) -> bool:
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def _outputs(content: bytes, samples: Sequence[dict[str, np.ndarray]]) -> list[np.ndarray]:
    runner = Interpreter(model_content=content).get_signature_runner()
    rows = [runner(**inputs) for inputs in samples]
    return [np.concatenate([np.asarray(row[name], "float64").ravel() for row in rows]) for name in sorted(rows[0])]


def _noise(expected: list[np.ndarray], outputs: list[np.ndarray]) -> float:
    ratios = [
        float(np.sum(np.square(got - want)) / max(float(np.sum(np.square(want))), 1e-30))
        for want, got in zip(expected, outputs, strict=True)
    ]
    return float(np.mean(ratios))
