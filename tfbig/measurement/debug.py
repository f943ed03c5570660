"""`tfbig.debug`: layer by layer, a Keras model and the LiteRT file that was made of it."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfbig.compression.native.clone import check_keras_model
from tfbig.compression.native.inference import quantizing_machine
from tfbig.compression.native.tracing import Untraceable
from tfbig.errors import InvalidFile, InvalidModel, check_count, unknown
from tfbig.exporters.calibration_samples import calibration_samples
from tfbig.exporters.export import export
from tfbig.exporters.inference_graph import input_specs, probe_inputs, save_inference_graph
from tfbig.exporters.tf_keras_litert import exportable
from tfbig.isolation import run_isolated
from tfbig.measurement.activations import Activation
from tfbig.measurement.diagnosis import Diagnosis, LayerError, decibels
from tfbig.measurement.inspect import inspect
from tfbig.measurement.keras_tensors import KerasTensors, Place
from tfbig.measurement.litert import in_child
from tfbig.measurement.sensitivity import SCHEMES, rank, scheme_of

__all__ = ["Diagnosis", "debug"]

Sample = dict[str, np.ndarray]
_ALIKE = 0.95  # cosine of two tensors of one size that are taken for the same, for want of a name


def debug(
    model: keras.Model,
    path: str | os.PathLike,
    data: Any = None,
    *,
    samples: int = 16,
    quantize: str | None = None,
    sensitivity: bool = True,
) -> Diagnosis:
    """Compares every layer of `model` with the LiteRT file at `path`, and ranks the layers by what rounding them costs.

    The model is written once more as a float file, whose tensors are the model's by value; tensors of the same name
    are then compared in the file at `path`. To rank, each layer alone is quantized in the float file, with the ranges
    of the file at `path`, and the noise that arrives at the outputs is measured. Then the worst layers with weights,
    one, two, and up to a third of them, are left in float together; the fewest that bring nearly all there is to win
    are what the recipe exempts.

    Args:
        model: the Keras 3 model that the file was exported from.
        path: a LiteRT file, float or quantized.
        data: typical inputs, as `tfbig.data.load` gives them (the test split is used), a batched dataset, or arrays;
            without it, random numbers.
        samples: how many of them to run, one by one.
        quantize: the scheme to rank the layers for; by default that of the file. Name one to learn from a float file
            which layers would suffer.
        sensitivity: whether to rank; it takes one small conversion for each layer.

    Raises:
        InvalidFile: the file is damaged, not LiteRT, or not of this model.
        InvalidData: the data does not fit the model.
        InvalidArgument: an unknown scheme.
    """
    check_keras_model(model := exportable(model, Path(path)))
    check_count("samples", samples)
    if quantize is not None and quantize not in SCHEMES:
        raise unknown("value of `quantize`", quantize, SCHEMES)
    inspection = inspect(path)
    inputs = _inputs(model, data, samples)
    scheme = quantize or scheme_of(inspection.scheme)
    with tempfile.TemporaryDirectory(prefix="tfbig-debug-") as folder:
        twin = _float_twin(model, Path(folder), integers=scheme is not None)
        comparison = _Comparison(model, str(twin), str(path), inputs[0])
        diagnosis = Diagnosis(
            file=str(path),
            scheme=inspection.scheme,
            samples=len(inputs),
            layers=comparison.over(inputs),
            notes=tuple(_notes(data, scheme, comparison)),
        )
        if scheme is None or not sensitivity:
            return diagnosis
        found = rank(twin, Path(path), scheme, comparison.ops_by_layer(), comparison.weighted, inputs)
    return dataclasses.replace(diagnosis, sensitivity=found.sensitivity, trial=found.trial, recipe=found.recipe)


def _inputs(model: keras.Model, data: Any, samples: int) -> list[Sample]:
    if data is None:
        names = [spec.name for spec in input_specs(model, 1)]
        return [dict(zip(names, probe_inputs(model, seed=i), strict=True)) for i in range(samples)]
    if hasattr(data, "test") and hasattr(data, "train"):
        data = data.test if data.test is not None else data.train
    return calibration_samples(model, data, limit=samples)


def _float_twin(model: keras.Model, folder: Path, *, integers: bool) -> Path:
    """The model as a float LiteRT file, even if it was trained to be an integer one.

    Args:
        integers: in the form in which it is quantized.
    """
    twin = folder / "float.tflite"
    if quantizing_machine(model) is None and not integers:
        return export(model, twin, sparse=False)
    output_ops = save_inference_graph(model, folder / "graph", integers=quantizing_machine(model) is None)
    probe = dict(zip([spec.name for spec in input_specs(model, 1)], probe_inputs(model), strict=True))
    part: dict[str, Any] = {"output": str(twin), "quantize": None, "probes": [probe], "output_ops": output_ops}
    run_isolated("tfbig.exporters.conversion:convert", folder=str(folder / "graph"), **part)
    return twin


class _Comparison:
    """Tensors of the model beside those of the file that stand for them."""

    def __init__(self, model: keras.Model, twin: str, path: str, sample: Sample):
        self.twin, self.path = twin, path
        self.untraced: str | None = None
        first = _activations(twin, sample)
        self.ops = [activation.name for activation in first]
        self.tensors: KerasTensors | None = None
        try:
            self.tensors = KerasTensors(model)
            values = [(activation.name, activation.values) for activation in first]
            self.places = self.tensors.places(list(sample.values()), values)
        except (Untraceable, InvalidModel) as error:
            self.untraced = str(error).partition(": ")[0].rstrip(".") + "."
            self.places = {name: Place(i, name.rsplit(";", 1)[-1], ()) for i, name in enumerate(self.ops)}
        self.weighted = {place.layer: place.weighted for place in self.places.values() if place.weighted}
        self.place_in_file = self._places_in_file(sample)

    def over(self, inputs: Sequence[Sample]) -> tuple[LayerError, ...]:
        """The errors of all tensors that are in both, over all samples."""
        sums: dict[str, _Sums] = {}
        for sample in inputs:
            expected = self._expected(sample)
            for activation in _activations(self.path, sample):
                if place := self.place_in_file.get(activation.name):
                    total = sums.setdefault(activation.name, _Sums(activation, place.layer))
                    total.add(expected[place.tensor].ravel(), activation.values.ravel())
        return tuple(total.error() for total in sums.values())

    def ops_by_layer(self) -> dict[str, list[str]]:
        """The operations of the float file that belong to each layer; what is in between goes to the next one."""
        groups: dict[str, list[str]] = {}
        waiting: list[str] = []
        for name in self.ops:
            waiting.append(name)
            if name in self.places:
                groups.setdefault(self.places[name].layer, []).extend(waiting)
                waiting = []
        return groups

    def _expected(self, sample: Sample) -> dict[int, np.ndarray]:
        if self.tensors is not None:
            return self.tensors.expected(list(sample.values()))
        return {i: activation.values for i, activation in enumerate(_activations(self.twin, sample))}

    def _places_in_file(self, sample: Sample) -> dict[str, Place]:
        """Which tensor of the file is which: by name and numbers, else by its numbers alone, else by its name alone.

        Converters number tensors of one name anew, so that a name with other numbers may be another tensor's.
        """
        by_name = {plain_name(name): place for name, place in self.places.items()}
        expected = self._expected(sample)
        left = {place.tensor: place for place in self.places.values()}
        found: dict[str, Place] = {}
        waiting: list[tuple[Activation, Place | None]] = []
        for activation in _activations(self.path, sample):
            place = self.places.get(activation.name, by_name.get(plain_name(activation.name)))
            if place is not None and _cosine(expected[place.tensor], activation.values) > _ALIKE:
                found[activation.name] = place
                left.pop(place.tensor, None)
            else:
                waiting.append((activation, place))
        broken: list[tuple[Activation, Place]] = []
        for activation, place in waiting:
            alike = {t: _cosine(expected[t], activation.values) for t in left}
            best = max(alike, key=lambda t: alike[t], default=None)
            if best is not None and alike[best] > _ALIKE:
                found[activation.name] = left.pop(best)
            elif place is not None and expected[place.tensor].size == activation.values.size:
                broken.append((activation, place))
        for activation, place in broken:
            if place.tensor in left:
                found[activation.name] = left.pop(place.tensor)
        if not found:
            raise InvalidFile(
                f"`{self.path}` has no tensor in common with the model: expected the file that was exported from it. "
                "Export the model again, and compare with that file."
            )
        return found


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a.ravel() @ b.ravel()) / norms if a.size == b.size and norms else 0.0


class _Sums:
    """What has to be added up for the figures of one tensor."""

    def __init__(self, activation: Activation, layer: str):
        self.of, self.layer = activation, layer
        self.signal = self.noise = self.dot = self.power = self.worst = 0.0

    def add(self, want: np.ndarray, got: np.ndarray) -> None:
        want, got = want.astype("float64"), got.astype("float64")
        self.signal += float(want @ want)
        self.power += float(got @ got)
        self.dot += float(want @ got)
        self.noise += float(np.sum(np.square(want - got)))
        self.worst = max(self.worst, float(np.max(np.abs(want - got), initial=0.0)))

    def error(self) -> LayerError:
        norms = (self.signal * self.power) ** 0.5
        return LayerError(
            layer=self.layer,
            tensor=self.of.name,
            type=self.of.type,
            dtype=self.of.dtype,
            snr_db=decibels(self.noise / max(self.signal, 1e-30)),
            cosine=self.dot / norms if norms else float(self.signal == self.power),
            max_error=self.worst,
            max_error_steps=self.worst / self.of.step if self.of.step else None,
        )


def plain_name(name: str) -> str:
    """A tensor's name without the numbers that converters put behind parts of it, and without what quantizers add."""
    parts = name.removesuffix("_dequant").removesuffix("_quantized").split(";")
    return ";".join("/".join(piece.rstrip("0123456789").rstrip("_") for piece in part.split("/")) for part in parts)


def _activations(path: str, sample: Sample) -> list[Activation]:
    return in_child("activations:activations", path, sample)


def _notes(data: Any, scheme: str | None, comparison: _Comparison) -> list[str]:
    notes = []
    if data is None:
        notes.append("no data was given: the samples are random numbers. Give typical inputs for figures that count")
    if scheme is None:
        notes.append("the file holds no integers: quantize='int8' ranks the layers for that scheme")
    if comparison.untraced:
        notes.append(
            "the model cannot be seen layer by layer, so its float file stands for it, tensor by tensor: "
            f"{comparison.untraced}"
        )
    return notes
