"""Answers of a LiteRT file for a batch of any size; runs in a child process, without TensorFlow."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np

Detail = tuple[str, tuple[int, ...], str]  # name, shape with -1 where free, dtype (float32 where quantized)


def describe(path: str) -> tuple[list[Detail], list[Detail]]:
    """The inputs and outputs of the file.

    Raises:
        InvalidFile: LiteRT cannot read it.
    """
    interpreter = _interpreter(path, os.stat(path).st_mtime_ns)
    details = interpreter.get_input_details(), interpreter.get_output_details()
    inputs, outputs = ([(_name(d), _shape(d), _real_dtype(d)) for d in side] for side in details)
    return inputs, outputs


def predict(path: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs as float32, `(batch, ...)`, for inputs of `(batch, ...)` in the order of `describe`."""
    interpreter = _interpreter(path, os.stat(path).st_mtime_ns)
    details = interpreter.get_input_details()
    total = len(inputs[0])
    fixed = [_shape(d)[0] for d in details if _shape(d)[0] != -1]
    size = fixed[0] if fixed else max(total, 1)
    chunks = [_run(interpreter, [x[i : i + size] for x in inputs], size) for i in range(0, total, size)]
    return [np.concatenate(parts)[:total] for parts in zip(*chunks, strict=True)]


def _run(interpreter: Any, inputs: list[np.ndarray], size: int) -> list[np.ndarray]:
    details = interpreter.get_input_details()
    if any(d["shape"][0] != size for d in details):
        for detail in details:
            interpreter.resize_tensor_input(detail["index"], [size, *detail["shape"][1:]])
        interpreter.allocate_tensors()
    for detail, x in zip(details, inputs, strict=True):
        missing = size - len(x)
        padded = np.concatenate([x, np.repeat(x[-1:], missing, axis=0)]) if missing else x
        interpreter.set_tensor(detail["index"], _quantized(padded, detail))
    interpreter.invoke()
    return [_dequantized(interpreter.get_tensor(d["index"]), d) for d in interpreter.get_output_details()]


@functools.lru_cache(maxsize=4)
def _interpreter(path: str, modified_ns: int) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    from tfbig.errors import InvalidFile

    try:
        interpreter = Interpreter(model_path=path, num_threads=os.cpu_count())
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InvalidFile(f"`teacher` '{path}' is not a LiteRT file that can be run: {error}.") from error
    return interpreter


def _real_dtype(detail: dict[str, Any]) -> str:
    return "float32" if detail["quantization"][0] else np.dtype(detail["dtype"]).name


def _quantized(x: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale or not np.issubdtype(detail["dtype"], np.integer):
        return x.astype(detail["dtype"])
    limits = np.iinfo(detail["dtype"])
    return np.clip(np.round(x / scale) + zero, limits.min, limits.max).astype(detail["dtype"])


def _dequantized(y: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero = detail["quantization"]
    if not scale or not np.issubdtype(detail["dtype"], np.integer):
        return y.astype(np.float32)
    return (y.astype(np.float32) - zero) * np.float32(scale)


def _shape(detail: dict[str, Any]) -> tuple[int, ...]:
    signature = detail.get("shape_signature")
    return tuple(int(d) for d in (detail["shape"] if signature is None or not len(signature) else signature))


def _name(detail: dict[str, Any]) -> str:
    # The converter calls an input "serving_default_<name>:0".
    return str(detail["name"]).removeprefix("serving_default_").split(":")[0]
