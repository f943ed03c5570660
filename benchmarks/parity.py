"""How far a LiteRT file is from the Keras model that it was exported from, in quantization steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks import litert_tensors
from benchmarks.zoo import pack
from tfbig.compression.native.inference import quantizing_machine
from tfbig.exporters.inference_graph import input_specs
from tfbig.isolation import run_isolated
from tfbig.measurement.litert import run_litert


@dataclasses.dataclass(frozen=True)
class Parity:
    """Differences in steps of the output's scale; outputs that are float in the file count range / 255 as a step."""

    steps_max: float
    steps_mean: float
    logits_max: float | None  # the same at the input of a last softmax, which blows single steps up
    logits_mean: float | None
    argmax: float | None  # share of samples with the same largest entry
    decided: float | None  # the same, among samples whose two largest entries are more than a step apart


def parity(model: keras.Model, path: Path, inputs: Sequence[np.ndarray]) -> Parity:
    """Compares all outputs of `model` and of the file on `inputs`, one array per input of the model."""
    expected = _outputs(model, inputs)
    named = dict(zip([spec.name for spec in input_specs(model, 1)], inputs, strict=True))
    received = run_litert(path, named)
    ends = run_isolated(f"{litert_tensors.__name__}:output_ends", str(path), len(expected), worker="interpret")
    scales = [end.scale or _range(y) / 255 for end, y in zip(ends, expected, strict=True)]
    differences = _steps(expected, received, scales)
    logits = _logits(model, path, inputs, named, ends)
    agreement = [a for a in map(_agreement, expected, received, scales) if a is not None]
    return Parity(
        *_summary(differences),
        *(_summary(logits) if logits else (None, None)),
        *(np.min(agreement, axis=0).tolist() if agreement else (None, None)),
    )


def _outputs(model: keras.Model, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    outputs = model(pack(model, list(inputs)), training=False)
    return [np.asarray(y, "float32") for y in keras.tree.flatten(outputs)]


def _logits(
    model: keras.Model,
    path: Path,
    inputs: Sequence[np.ndarray],
    named: dict[str, np.ndarray],
    ends: Sequence[Any],
) -> list[np.ndarray]:
    machine = quantizing_machine(model)
    if machine is None or not any(end.logits for end in ends):
        return []
    producers = {tensor: step for step in machine.graph.steps for tensor in step.outputs}
    symbols = [machine.graph.tensors[producers[id(y)].inputs[0]] for y in keras.tree.flatten(machine.graph.outputs)]
    whole = machine.graph
    object.__setattr__(machine, "graph", dataclasses.replace(whole, outputs=symbols))
    expected = _outputs(model, inputs)
    object.__setattr__(machine, "graph", whole)
    wanted = [end.logits for end in ends]
    received = run_isolated(f"{litert_tensors.__name__}:values", str(path), named, wanted, worker="interpret")
    found = [(e, r, end.logits_scale) for e, r, end in zip(expected, received, ends, strict=True) if end.logits]
    return _steps(*(list(column) for column in zip(*found, strict=True)))


def _steps(expected: list[np.ndarray], received: list[np.ndarray], scales: list[float]) -> list[np.ndarray]:
    return [np.abs(e - r.reshape(e.shape)) / s for e, r, s in zip(expected, received, scales, strict=True)]


def _summary(differences: list[np.ndarray]) -> tuple[float, float]:
    together = np.concatenate([d.ravel() for d in differences])
    return float(together.max()), float(together.mean())


def _agreement(expected: np.ndarray, received: np.ndarray, scale: float) -> tuple[float, float] | None:
    classes = expected.shape[-1]
    if classes < 2:
        return None
    expected, received = expected.reshape(-1, classes), received.reshape(-1, classes)
    same = expected.argmax(-1) == received.argmax(-1)
    ranked = np.sort(expected, axis=-1)
    clear = ranked[:, -1] - ranked[:, -2] > 1.5 * scale
    return float(same.mean()), float(same[clear].mean()) if clear.any() else 1.0


def _range(values: np.ndarray) -> float:
    return max(float(values.max() - values.min()), 1e-6)
