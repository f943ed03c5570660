"""The models that every technique is tried on, each under a name and with the inputs that it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

Build = Callable[[], keras.Model]


@dataclasses.dataclass(frozen=True)
class Entry:
    """One model of the zoo."""

    name: str
    build: Build
    kind: str  # "dense", "convolutional", "attention", "recurrent", "structure" or "application"
    span: tuple[float, float]  # smallest and largest value of its real inputs


ENTRIES: dict[str, Entry] = {}


def entry(kind: str, *, span: tuple[float, float] = (-1.0, 1.0)) -> Callable[[Build], Build]:
    """Puts the decorated builder into the zoo, under the function's name."""

    def add(build: Build) -> Build:
        ENTRIES[build.__name__] = Entry(build.__name__, build, kind, span)
        return build

    return add


def example_inputs(model: keras.Model, span: tuple[float, float], samples: int, seed: int = 0) -> list[np.ndarray]:
    """Random inputs, one array for each input of the model: reals within `span`, whole numbers below 16."""
    rng = np.random.default_rng(seed)
    return [_random(tuple(shape[1:]), dtype, span, samples, rng) for shape, dtype in _signature(model)]


def example_targets(model: keras.Model, inputs: list[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """Random targets of the shapes that the model gives."""
    rng = np.random.default_rng(seed)
    outputs = model(pack(model, inputs), training=False)
    return [rng.random(tuple(y.shape), "float32") for y in keras.tree.flatten(outputs)]


def pack(model: keras.Model, arrays: list[np.ndarray]) -> Any:
    """The arrays in the structure that the model takes."""
    structure = getattr(model, "_inputs_struct", None)
    return arrays[0] if structure is None else keras.tree.pack_sequence_as(structure, arrays)


def randomise(model: keras.Model, inputs: list[np.ndarray], seed: int = 0) -> None:
    """Gives the model statistics like a trained one's, so that no BatchNormalization or bias folds away.

    Biases, gammas and betas become random; the moving statistics become those that `inputs` cause. Betas lie around 1,
    so that most units are active: in a random net whose units are active half the time, any small difference grows
    exponentially with the number of BatchNormalizations (Yang et al. 2019, https://arxiv.org/abs/1902.08129), which
    is chaos and not a property of the file.
    """
    rng = np.random.default_rng(seed)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    for variable in model.trainable_variables:
        name = variable.path.rsplit("/", 1)[-1]
        if name == "gamma":
            variable.assign(variable * rng.uniform(0.7, 1.3, variable.shape))
        elif name in ("beta", "bias"):
            variable.assign(variable + rng.normal(1.0 if name == "beta" else 0.0, 0.2, variable.shape))
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        model(pack(model, inputs), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _signature(model: keras.Model) -> list[tuple[tuple, str]]:
    if getattr(model, "inputs", None):
        return [(x.shape, x.dtype) for x in model.inputs]
    return [(tuple(model._build_shapes_dict["input_shape"]), model.input_dtype)]


def _random(
    shape: tuple[int, ...], dtype: str, span: tuple[float, float], samples: int, rng: np.random.Generator
) -> np.ndarray:
    if "int" in str(dtype):
        return rng.integers(0, 16, (samples, *shape)).astype(str(dtype))
    # Blobs of different brightness rather than noise, which averages to the same value everywhere.
    low, high = span
    noise = rng.random((samples, *shape)) * rng.random((samples, *(1,) * (len(shape) - 1), shape[-1]))
    return (low + (high - low) * noise).astype("float32")
