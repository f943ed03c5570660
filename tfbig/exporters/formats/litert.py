"""LiteRT (`.tflite`): float, quantized as the model was trained, or quantized after training."""

from __future__ import annotations

import fnmatch
import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfbig.compression.native.affine import is_too_coarse
from tfbig.compression.native.clone import refuse_quantized_by_keras
from tfbig.compression.native.inference import (
    float_layers,
    quantizing_machine,
    ranges_at_points,
    weight_ranges,
    whole_layers,
)
from tfbig.compression.native.kernels import weighted_layers
from tfbig.compression.native.prepared import Prepared
from tfbig.compression.native.quantizing import Quantizing
from tfbig.compression.techniques.quantize import Quantize
from tfbig.errors import InvalidArgument, InvalidModel, nearest, unknown
from tfbig.exporters.calibration_samples import calibration_samples, no_calibration
from tfbig.exporters.inference_graph import (
    input_specs,
    output_names,
    probe_inputs,
    reference_outputs,
    save_inference_graph,
)
from tfbig.exporters.post_training import PostTraining
from tfbig.exporters.tf_keras_litert import as_trained
from tfbig.exporters.verification import check_outputs
from tfbig.isolation import run_isolated

suffixes = (".tflite",)
_ACTIVATION_BITS = {"int8": 8, "int16x8": 16, "int4": 8}
_STATIC = tuple(_ACTIVATION_BITS)
_SCHEMES = (*_STATIC, "dynamic", "float16", "weight_only_int8", "weight_only_int4")
_PROBES = 4  # of a quantized file: a class that flips by rounding in one of them does not make it useless.
_SPARSE_FROM = 0.5  # Below this share of zeros the indices of a sparse encoding outweigh what it leaves out.
_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)


def write(
    model: keras.Model,
    path: Path,
    *,
    quantize: str | PostTraining | None = None,
    calibration: Any = None,
    sparse: bool | None = None,
    select_tf_ops: bool = False,
) -> dict[str, Any]:
    """Writes the LiteRT file and returns the facts that its metadata holds.

    Args:
        quantize: None keeps what the model was prepared for (`tfbig.Quantize`), else float.
        calibration: a batched dataset, or arrays, that shows the ranges of activations for "int8", "int16x8", "int4".
        sparse: store zeros compactly. None does so for a model that is at least half zeros, if that does not make the
            gzipped file larger; True does so wherever the file itself gets smaller.
        select_tf_ops: leave operations that LiteRT has not to TensorFlow. A file with such operations cannot be run
            here, and is not compared with the model, which a warning says.

    Raises:
        ConversionFailed: the converter refused or died, or the file does not compute what the model computes.
    """
    with tempfile.TemporaryDirectory(prefix="tfbig-") as folder:
        part = _saved(model, folder, quantize, calibration, sparse, select_tf_ops)
        facts = run_isolated("tfbig.exporters.conversion:convert", output=str(path.absolute()), **part)
    outputs = facts.pop("outputs")
    if not _told_of(facts.pop("tf_ops"), path):
        _check(model, part, outputs, "LiteRT file")
    return facts


def write_signatures(
    models: Mapping[str, keras.Model],
    path: Path,
    *,
    quantize: str | PostTraining | None = None,
    calibration: Any = None,
    sparse: bool | None = None,
    select_tf_ops: bool = False,
) -> dict[str, Any]:
    """Writes one LiteRT file with a signature for each model; weights that they share are stored once.

    Args:
        calibration: as of `write`, by the name of the signature.
        quantize, sparse, select_tf_ops: as of `write`, for all of them.
    """
    given = dict.fromkeys(models) if calibration is None else calibration
    if not isinstance(given, Mapping) or set(given) != set(models):
        received = f"{', '.join(map(str, given))}" if isinstance(given, Mapping) else type(given).__name__
        raise InvalidArgument(
            f"`calibration` must map each signature to its data, here {', '.join(models)}, received {received}."
        )
    with tempfile.TemporaryDirectory(prefix="tfbig-") as folder:
        parts = {
            name: _saved(model, os.path.join(folder, str(number)), quantize, given[name], sparse, select_tf_ops)
            for number, (name, model) in enumerate(models.items())
        }
        facts = run_isolated("tfbig.exporters.conversion:convert_together", parts, str(path.absolute()))
    outputs = facts.pop("outputs")
    unchecked = _told_of(facts.pop("tf_ops"), path)
    for name, model in () if unchecked else models.items():
        _check(model, parts[name], outputs[name], f"signature '{name}' of the LiteRT file")
    return facts


def _told_of(tf_ops: list[str], path: Path) -> bool:
    """Warns of operations that are left to TensorFlow; whether there are any."""
    if tf_ops:
        warnings.warn(
            f"{path.name} holds operations of TensorFlow: {', '.join(tf_ops)}. It needs LiteRT's Flex delegate on the "
            "device, which Python does not have: it was not run, and not compared with the model.",
            stacklevel=2,
        )
    return bool(tf_ops)


def _saved(
    model: keras.Model,
    folder: str,
    quantize: str | PostTraining | None,
    calibration: Any,
    sparse: bool | None,
    select_tf_ops: bool,
) -> dict[str, Any]:
    """Saves the model into `folder`; returns the arguments of the child's converter."""
    refuse_quantized_by_keras(model)
    how = _quantization(model, quantize, calibration)
    if select_tf_ops and how is not None and how["scheme"] != "float16":
        raise InvalidArgument(
            f"`select_tf_ops=True` goes with float files, quantize=None or 'float16': operations of TensorFlow have no "
            f"integers, received {quantize or 'a model prepared with Quantize'!r}. Leave one of the two out."
        )
    samples = how.get("samples") if how else None
    output_ops = save_inference_graph(model, Path(folder), integers=samples is not None)
    return {
        "folder": folder,
        "quantize": how,
        "probes": _probes(model, samples, _PROBES if how else 1),
        "sparse": False if sparse is None and not _is_sparse(model) else sparse,
        "names": output_names(model),
        "output_ops": output_ops,
        "select_tf_ops": select_tf_ops,
    }


def _probes(model: keras.Model, samples: Sequence[Mapping[str, np.ndarray]] | None, count: int) -> list[dict[str, Any]]:
    """The inputs that the file is compared with the model on: from the samples, evenly spread, or random ones."""
    names = [spec.name for spec in input_specs(model, 1)]
    if not samples:
        return [dict(zip(names, probe_inputs(model, seed=seed), strict=True)) for seed in range(count)]
    chosen = np.linspace(0, len(samples) - 1, min(count, len(samples))).astype(int)
    return [{name: samples[index][name] for name in names} for index in chosen]


def _check(model: keras.Model, part: dict[str, Any], outputs: list[list[np.ndarray]], kind: str) -> None:
    expected = [reference_outputs(model, list(probe.values())) for probe in part["probes"]]
    how = part["quantize"]
    typical = how is not None and "samples" in how
    check_outputs(kind, _of_all_probes(outputs), _of_all_probes(expected), exact=how is None, typical=typical)


def _of_all_probes(outputs: list[list[np.ndarray]]) -> list[np.ndarray]:
    return [np.concatenate([np.atleast_1d(value) for value in values]) for values in zip(*outputs, strict=True)]


def _quantization(model: keras.Model, quantize: str | PostTraining | None, calibration: Any) -> dict[str, Any] | None:
    """The arguments of the child's quantizer, or None for a float file."""
    if isinstance(quantize, PostTraining):
        how = _quantization(model, quantize.dtype, calibration)
        if how is None or "samples" not in how:
            why = (
                "is recurrent: only its weights become integers" if _is_recurrent(model) else "was trained for integers"
            )
            raise InvalidArgument(
                f"`quantize` is a PostTraining, which chooses ranges of activations, but '{model.name}' {why}. Give "
                f"quantize='{quantize.dtype}' or nothing."
            )
        _check_schemes(quantize.schemes or {}, model)
        options = quantize.options()
        return {**how, **options, "schemes": {**how.get("schemes", {}), **options["schemes"]}}
    if quantize is not None and quantize not in _SCHEMES:
        raise unknown("value of `quantize`", quantize, _SCHEMES)
    if (by_tfmot := as_trained(model, quantize)) is not None:
        return by_tfmot
    machine = quantizing_machine(model)
    if machine is not None:
        return _as_trained(model, machine, quantize)
    if quantize not in _STATIC:
        return {"scheme": quantize} if quantize else None
    if _is_recurrent(model):
        return {"scheme": "hybrid"}
    if calibration is None:
        raise no_calibration(quantize)
    coarse = [layer.name for layer in model._flatten_layers() if is_too_coarse(layer, _ACTIVATION_BITS[quantize])]
    return {
        "scheme": quantize,
        "samples": calibration_samples(model, calibration),
        "weighted": weighted_layers(model),
        "schemes": dict.fromkeys(coarse, "float_columns"),
    }


def _check_schemes(schemes: Mapping[str, str], model: keras.Model) -> None:
    names = [layer.name for layer in model._flatten_layers(include_self=False)]
    for pattern in schemes:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise InvalidArgument(
                f"`schemes` has the pattern '{pattern}', which matches no layer of '{model.name}'. Expected a layer "
                f"name or a glob such as 'block1_*'.{nearest(pattern, names)}"
            )


def _as_trained(model: Prepared, machine: Quantizing, quantize: str | None) -> dict[str, Any]:
    technique = next(t for t in model.preparation.techniques if isinstance(t, Quantize))
    if quantize not in (None, technique.dtype):
        raise InvalidArgument(
            f"`quantize` is '{quantize}', but the model was trained with Quantize('{technique.dtype}'). Leave "
            "`quantize` out, or export the model from before Quantize."
        )
    if not machine.calibrated:
        raise InvalidModel(
            f"`model` '{model.name}' was prepared with Quantize but saw no data, so its ranges are unknown. Train it "
            "for a step or more with fit, then export."
        )
    if machine.graph is None:
        return {"scheme": "hybrid", "weights_only": machine.weights_only}
    probe = probe_inputs(model)
    names = [spec.name for spec in input_specs(model, 1)]
    return {
        "scheme": technique.dtype,
        "probe": dict(zip(names, probe, strict=True)),
        "learned": ranges_at_points(model, probe),
        "weight_ranges": weight_ranges(model),
        "float_layers": float_layers(model),
        "whole_layers": whole_layers(model),
    }


def _is_sparse(model: keras.Model) -> bool:
    weights = [keras.ops.convert_to_numpy(v) for v in model.weights if len(v.shape) > 1]
    return sum(np.count_nonzero(w == 0) for w in weights) >= _SPARSE_FROM * max(1, sum(w.size for w in weights))


def _is_recurrent(model: keras.Model) -> bool:
    return any(isinstance(layer, _RECURRENT) for layer in model._flatten_layers())
