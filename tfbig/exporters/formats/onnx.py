"""ONNX (`.onnx`): float, or int8 in the QDQ format, with an open batch size."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfbig.compression.native.inference import float_layers, quantizing_machine, ranges_at_points
from tfbig.compression.techniques.quantize import Quantize
from tfbig.errors import InvalidArgument, InvalidModel, unknown
from tfbig.exporters.calibration_samples import calibration_samples, no_calibration
from tfbig.exporters.extras import require
from tfbig.exporters.fresh_state import stateful_layers
from tfbig.exporters.inference_graph import input_specs, probe_inputs, reference_outputs, save_inference_graph
from tfbig.exporters.verification import check_outputs
from tfbig.isolation import run_isolated

suffixes = (".onnx",)
_OPSETS = range(13, 19)  # 13 is the first with scales per channel, 18 the last that tf2onnx writes
_DEFAULT_OPSET = 17
_SCHEMES = ("int8",)


def write(
    model: keras.Model,
    path: Path,
    *,
    opset: int | None = None,
    quantize: str | None = None,
    calibration: Any = None,
    symmetric: bool = False,
) -> dict[str, Any]:
    """Writes the ONNX file and returns the facts that its metadata holds.

    Args:
        opset: the version of ONNX's operators, 13 to 18; None: 17.
        quantize: "int8", or None: int8 for a model that was trained under `tfbig.Quantize("int8")`, else float.
        calibration: for "int8" of a model that was not: as of `tfbig.export`.
        symmetric: make all zero points 0.

    Raises:
        InvalidModel: a recurrent layer is stateful.
        MissingPackage: tf2onnx, onnx or onnxruntime is not installed.
        ConversionFailed: the converter refused or died, or the file does not compute what the model computes.
    """
    require("ONNX export", "onnx", "tf2onnx", "onnx", "onnxruntime")
    if opset is not None and opset not in _OPSETS:
        raise InvalidArgument(
            f"`opset` must be a whole number from {_OPSETS.start} to {_OPSETS.stop - 1}, received {opset!r}."
        )
    if stateful := stateful_layers(model):
        raise InvalidModel(
            f"`model` '{model.name}' has the stateful layer '{stateful[0].name}', and ONNX keeps nothing from call to "
            "call. Export it as LiteRT or as a SavedModel, or make the state an input and an output of the model: "
            "stateful=False, return_state=True and initial_state=..."
        )
    how = _quantization(model, quantize, calibration)
    names = [spec.name for spec in input_specs(model, 1)]
    probe = dict(zip(names, probe_inputs(model), strict=True))
    with tempfile.TemporaryDirectory(prefix="tfbig-") as folder:
        save_inference_graph(model, Path(folder), batch=None, integers=how is not None and "samples" in how)
        facts = run_isolated(
            "tfbig.exporters.onnx_conversion:convert",
            folder,
            str(path.absolute()),
            names=names,
            opset=opset or _DEFAULT_OPSET,
            quantize={**how, "symmetric": symmetric} if how is not None else None,
            probe=probe,
        )
    outputs = facts.pop("outputs")
    check_outputs("ONNX file", outputs, reference_outputs(model, list(probe.values())), exact=how is None)
    return facts


def _quantization(model: keras.Model, quantize: str | None, calibration: Any) -> dict[str, Any] | None:
    """The arguments of the child's quantizer, or None for a float file."""
    if quantize is not None and (not isinstance(quantize, str) or quantize not in _SCHEMES):
        raise unknown("value of `quantize` for ONNX", quantize, _SCHEMES)
    machine = quantizing_machine(model)
    if machine is None and quantize is None:
        return None
    if machine is None:
        if calibration is None:
            raise no_calibration(quantize)
        return {"samples": calibration_samples(model, calibration)}
    technique = next(t for t in model.preparation.techniques if isinstance(t, Quantize))
    if technique.dtype != "int8" or machine.graph is None:
        what = (
            f"trained with Quantize('{technique.dtype}')" if machine.graph else f"not integer: {machine.weights_only}"
        )
        raise InvalidArgument(
            f"`path` is an ONNX file, which holds int8; the model is {what}. Export it as .tflite, or the model from "
            "before Quantize."
        )
    if not machine.calibrated:
        raise InvalidModel(
            f"`model` '{model.name}' was prepared with Quantize but saw no data, so its ranges are unknown. Train it "
            "for a step or more with fit, then export."
        )
    probe = probe_inputs(model)
    named: dict[str, np.ndarray] = dict(zip([s.name for s in input_specs(model, 1)], probe, strict=True))
    return {"probe": named, "learned": ranges_at_points(model, probe), "float_layers": float_layers(model)}
