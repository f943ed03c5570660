"""A TensorRT engine (`.engine`) by way of ONNX; without TensorRT the ONNX file, and the command for the rest."""

from __future__ import annotations

import importlib.util
import shlex
import warnings
from pathlib import Path
from typing import Any

import keras

from tfbig.exporters.formats import onnx
from tfbig.exporters.inference_graph import input_specs
from tfbig.isolation import run_isolated

suffixes = (".engine",)
_BATCHES = (1, 8, 32)  # the smallest, the one it is made fastest for, the largest


def write(
    model: keras.Model,
    path: Path,
    *,
    opset: int | None = None,
    quantize: str | None = None,
    calibration: Any = None,
) -> dict[str, Any]:
    """Writes the ONNX file, with zero points of 0 if it is int8, and the engine for this machine's GPU.

    The ONNX file is compared with the model. An engine runs on the kind of GPU that it was built on, and nowhere else.

    Args:
        opset, quantize, calibration: as of `tfbig.export` for ONNX.
    """
    source = path.with_suffix(".onnx")
    facts = onnx.write(model, source, opset=opset, quantize=quantize, calibration=calibration, symmetric=True)
    shapes = {spec.name: tuple(spec.shape[1:]) for spec in input_specs(model, 1)}
    if importlib.util.find_spec("tensorrt") is None:
        command = trtexec(source.name, path.name, shapes, int8=facts.get("quantization") == "int8")
        warnings.warn(
            f"TensorRT is not installed, so {source.name} was written. On the GPU run: {command}", stacklevel=2
        )
        return facts
    run_isolated(
        "tfbig.exporters.tensorrt_engine:build", str(source.absolute()), str(path.absolute()), shapes, _BATCHES
    )
    return facts


def trtexec(source: str, engine: str, shapes: dict[str, tuple[int, ...]], *, int8: bool) -> str:
    """The command of TensorRT that builds the engine."""
    options = [f"--onnx={source}", f"--saveEngine={engine}"]
    for which, batch in zip(("min", "opt", "max"), _BATCHES, strict=True):
        sizes = ",".join(f"{name}:{'x'.join(map(str, (batch, *shape)))}" for name, shape in shapes.items())
        options.append(f"--{which}Shapes={sizes}")
    return shlex.join(["trtexec", *options, *(["--int8"] if int8 else [])])
