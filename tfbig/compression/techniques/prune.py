"""`Prune`: weights of small magnitude become zero while the model trains."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import ClassVar, Literal

import keras
import numpy as np

from tfbig.compression.native.kernels import TINY, Kernel, check_patterns, compressible_kernels, matches
from tfbig.compression.native.machine import Machine
from tfbig.compression.native.pruning import Pruning
from tfbig.compression.native.sparsity_layout import NOfM, parse_layout
from tfbig.compression.schedule import Schedule
from tfbig.compression.technique import Engine, check_choice
from tfbig.compression.tfmot.callback import PruningStep
from tfbig.compression.tfmot.engine import TwoEngines
from tfbig.errors import InvalidArgument, InvalidModel, InvariantBroken, check_range


@dataclasses.dataclass(frozen=True)
class Prune(TwoEngines):
    """Sets the weights of smallest magnitude to zero, step by step while the model trains.

    In the model: every compressible weight tensor (rank 2 or more; biases, normalisation and tensors of fewer than
    `min_size` elements are left alone) is multiplied by a mask in the forward pass. `finish` writes the zeros into the
    weights: each tensor then has the asked share of zeros, to one element.

    Args:
        sparsity: share of weights that become zero, in (0, 1).
        schedule: "polynomial" grows from `initial_sparsity` to `sparsity` between `begin` and `end`; "constant" prunes
            fully at `begin`.
        initial_sparsity: share of zeros at `begin`, in [0, 1).
        begin, end: an int counts training steps; a float in [0, 1] is a share of the training that `fit` was asked for.
            In a loop of your own, which tells no length, give steps: a share counts as past.
        power: exponent of the polynomial; 3 is the cubic schedule of Zhu and Gupta, 1 is linear.
        frequency: steps between two renewals of the masks.
        scope: "layer" gives every tensor the same sparsity; "global" ranks all weights of the model in one list, of
            which every tensor keeps at least a tenth of what "layer" would keep: a layer of zeros ends the network.
        pattern: "N:M" keeps at most N of every M neighbours along the input channels, e.g. "2:4"; it fixes the
            sparsity at 1 - N/M, and `sparsity` must be that or be left out. Layers whose input channels M does not
            divide, such as the first convolution of an image network, stay dense, and a warning names them.
        block_size: `(height, width)` of blocks in the matrix `(inputs, output channels)` that are zeroed as a whole.
        layers: overrides: layer name, glob or layer type -> sparsity, or None to leave these layers alone. The last
            match wins.
        min_size: tensors with fewer elements are left alone.
        engine: "native" for Keras 3 models, "tfmot" for TFMOT's own, "auto" to choose by the kind of model.

    Raises:
        InvalidArgument: an option outside its range; a pattern of `layers` that matches nothing.
        InvalidModel: the model has nothing to prune.

    Reference:
        Zhu and Gupta 2017, "To prune, or not to prune", https://arxiv.org/abs/1710.01878, equation (1). Layers that
        global pruning empties: Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving
        synaptic flow", https://arxiv.org/abs/2006.05467, section 3.
    """

    name: ClassVar[str] = "prune"
    takes_away: ClassVar[bool] = True

    sparsity: float = 0.5
    schedule: Literal["polynomial", "constant"] = "polynomial"
    initial_sparsity: float = 0.0
    begin: int | float = 0.0
    end: int | float = 0.6
    power: float = 3.0
    frequency: int = 10
    scope: Literal["layer", "global"] = "layer"
    pattern: str | None = None
    block_size: tuple[int, int] = (1, 1)
    layers: Mapping[str, float | None] | None = None
    min_size: int = TINY
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        check_range("sparsity", self.sparsity, 0, 1, closed="neither")
        check_choice("schedule", self.schedule, ("polynomial", "constant"))
        check_choice("scope", self.scope, ("layer", "global"))
        check_choice("engine", self.engine, ("auto", "native", "tfmot"))
        object.__setattr__(self, "block_size", tuple(self.block_size))
        for pattern, sparsity in (self.layers or {}).items():
            if sparsity is not None:
                check_range(f"layers['{pattern}']", sparsity, 0, 1, closed="neither")
        self._schedule().check()
        self._check_layout()

    def machine(self, model: keras.Model) -> Machine:
        kernels, targets = self._targets(compressible_kernels(model, min_size=self.min_size))
        layout = self._check_layout()
        return Pruning(
            kernels, targets=targets, schedule=self._schedule(), layout=layout, across=self.scope == "global"
        )

    def prepare_natively(self, model: keras.Model) -> keras.Model:
        """Returns a copy of `model` whose weights are seen through masks."""
        prepared = super().prepare_natively(model)
        layout, overrides = self._check_layout(), list(self.layers or {})
        kernels = [k for k in compressible_kernels(model, min_size=self.min_size) if not layout.fits(k)]
        if dense := [k.layer.name for k in kernels if not any(matches(pattern, k) for pattern in overrides)]:
            warnings.warn(
                f"`pattern` is {self.pattern}: these layers stay dense, for the second number does not divide their "
                f"input channels: {', '.join(dict.fromkeys(dense))}.",
                stacklevel=3,
            )
        return prepared

    def callbacks(self) -> list[keras.callbacks.Callback]:
        """Returns the callback that TFMOT's pruning needs; with the native engine it does nothing."""
        return [] if self.engine == "native" else [PruningStep()]

    def verify_natively(self, model: keras.Model) -> None:
        """Raises `InvariantBroken` unless each pruned tensor has the asked share of zeros, to one unit."""
        kernels, targets = self._targets(compressible_kernels(model, min_size=self.min_size))
        reached = {id(kernel) for kernel in self.reached(kernels, model)}
        if self.scope == "global":
            sizes = np.array([k.size for k in kernels])
            share = np.average(targets, weights=sizes)
            _check_zeros("all layers together", sum(map(_zeros, kernels)), sizes.sum(), share)
            return
        unit = int(np.prod(self.block_size))
        for kernel, target in zip(kernels, targets, strict=True):
            if id(kernel) in reached:
                _check_zeros(kernel.name, _zeros(kernel), kernel.size, target, unit)

    def _targets(self, kernels: list[Kernel]) -> tuple[list[Kernel], list[float]]:
        overrides, layout = self.layers or {}, self._check_layout()
        check_patterns("layers", list(overrides), kernels)
        chosen: list[Kernel] = []
        targets: list[float] = []
        for kernel in kernels:
            asked = [value for pattern, value in overrides.items() if matches(pattern, kernel)]
            target = asked[-1] if asked else self.sparsity
            if asked and target is not None:
                layout.check(kernel)
            if target is not None and layout.fits(kernel):
                chosen.append(kernel)
                targets.append(target)
        if not chosen and self.pattern and None not in overrides.values():
            layout.check(kernels[0])
        if not chosen:
            raise InvalidModel("`layers` leaves every layer alone, so there is nothing to prune. Remove an override.")
        return chosen, targets

    def _schedule(self) -> Schedule:
        constant = self.schedule == "constant"
        power = 0 if constant else self.power
        end = self.end
        return Schedule(self.initial_sparsity, self.sparsity, self.begin, end, power, self.frequency)

    def _check_layout(self):
        layout = parse_layout(self.block_size, self.pattern)
        if isinstance(layout, NOfM) and abs(self.sparsity - (1 - layout.n / layout.m)) > 1e-6:
            raise InvalidArgument(
                f"`pattern` {self.pattern!r} means sparsity={1 - layout.n / layout.m:g}, received "
                f"sparsity={self.sparsity!r}. Give that value."
            )
        return layout


def _zeros(kernel: Kernel) -> int:
    return int(np.sum(kernel.variable.numpy() == 0))


def _check_zeros(where: str, zeros: int, size: int, target: float, unit: int = 1) -> None:
    if zeros < target * size - unit:
        raise InvariantBroken(
            f"'{where}' has {zeros / size:.2%} zeros, but Prune promised {target:.2%}. Something wrote into the "
            "weights after Prune; train later stages with tfbig.Preserve()."
        )
