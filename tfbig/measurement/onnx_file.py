"""An ONNX file in the child process: its weights, and what it computes.

The file may come from anywhere, so it is checked before ONNX Runtime sees it: it must hold its weights itself, for a
path to a file beside it could lead anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from tfbig.errors import ConversionFailed, InvalidData, InvalidFile
from tfbig.measurement.weights import WeightSummary, summarize_arrays

_MAX_BYTES = 2**31  # protobuf's own limit
_INTEGERS = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8, onnx.TensorProto.INT32)  # where they are dequantized
_REALS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


def weights(path: str) -> WeightSummary:
    """Counts over the constants that are real numbers, quantized ones among them."""
    model = _read(path)
    unpacked = {node.input[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    helpers = {name for node in model.graph.node if "antizeLinear" in node.op_type for name in node.input[1:]}
    tensors = [t for t in model.graph.initializer if t.name not in helpers]
    reals = [t for t in tensors if t.data_type in _REALS or (t.data_type in _INTEGERS and t.name in unpacked)]
    return summarize_arrays(onnx.numpy_helper.to_array(tensor) for tensor in reals)


def output_names(path: str) -> list[str]:
    """The names of the outputs in the order of `predict`."""
    return [output.name for output in _session(path, _version(path)).get_outputs()]


def predict(path: str, inputs: Sequence[np.ndarray] | Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs for a batch."""
    session = _session(path, _version(path))
    ends = session.get_inputs()
    given = dict(inputs) if isinstance(inputs, Mapping) else dict(zip([e.name for e in ends], inputs, strict=False))
    if sorted(given) != sorted(end.name for end in ends) or len(inputs) != len(ends):
        names = ", ".join(end.name for end in ends)
        raise InvalidData(f"`{path}` takes the inputs {names}, received {len(inputs)} arrays. Give one for each.")
    try:
        return session.run(None, {end.name: _fitting(path, end, np.asarray(given[end.name])) for end in ends})
    except InvalidData:
        raise
    except Exception as error:  # ONNX Runtime has no common base for what it raises.
        raise ConversionFailed(f"ONNX Runtime could not run `{path}`: {_line(error)}. Export it again.") from error


def _fitting(path: str, end: Any, array: np.ndarray) -> np.ndarray:
    want = [size if isinstance(size, int) else None for size in end.shape]
    pairs = list(zip(want, array.shape, strict=False))
    if len(want) != array.ndim or any(size not in (None, got) for size, got in pairs[1:]):
        raise InvalidData(
            f"The data does not fit `{path}`: its input '{end.name}' takes samples of shape {tuple(want[1:])}, "
            f"received {array.shape[1:]}. Reshape the data, or measure it with its own data."
        )
    types = {
        "tensor(float)": "float32",
        "tensor(int32)": "int32",
        "tensor(int64)": "int64",
        "tensor(double)": "float64",
    }
    return array.astype(types[end.type]) if end.type in types else array


@functools.lru_cache(maxsize=1)
def _session(path: str, version: int) -> Any:
    # `version` makes a file that was written anew a new key.
    from tfbig.exporters.onnx_session import session_of

    content = _read(path).SerializeToString()
    try:
        return session_of(content)
    except Exception as error:  # ONNX Runtime has no common base for what it raises.
        raise InvalidFile(f"`{path}` is refused by ONNX Runtime: {_line(error)}. Export it again.") from error


def _version(path: str) -> int:
    return Path(path).stat().st_mtime_ns if Path(path).is_file() else 0


def _read(path: str) -> Any:
    """The file as a message, checked.

    Raises:
        InvalidFile: missing, too large, truncated, altered, not ONNX, or leading to other files.
    """
    file = Path(path)
    if not file.is_file():
        raise InvalidFile(f"No file `{path}`. Check the path, or write it with tfbig.export(model, {file.name!r}).")
    if file.stat().st_size > _MAX_BYTES:
        raise InvalidFile(f"`{path}` has {file.stat().st_size:,} bytes; an ONNX file has at most {_MAX_BYTES:,}.")
    try:
        model = onnx.load_model_from_string(file.read_bytes())
    except (DecodeError, ValueError) as error:
        raise InvalidFile(f"`{path}` is not an ONNX file, or damaged: {_line(error)}. Export it again.") from error
    if not model.graph.node and not model.graph.output:
        raise InvalidFile(f"`{path}` holds no graph: it is not an ONNX file, or damaged. Export it again.")
    if elsewhere := [t.name for t in model.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]:
        raise InvalidFile(
            f"`{path}` keeps weights in other files ('{elsewhere[0]}'), which tfbig does not follow. Save it as one "
            "file: onnx.save(onnx.load(path), path)."
        )
    try:
        onnx.checker.check_model(model)
    except Exception as error:  # The checker raises errors of its C++ side, too.
        raise InvalidFile(f"`{path}` is damaged: {_line(error)}. Export it again.") from error
    return model


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
