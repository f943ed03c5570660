"""The ways to write one layer as several of low rank: costs, errors, and the layers they give."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import numpy as np

from tfbig.compression.structure.graph import channel_axis
from tfbig.compression.structure.spectrum import Spectrum
from tfbig.compression.structure.surgery import clone

Ranks = tuple[int, ...]
Shapes = tuple[tuple[int, ...], tuple[int, ...]]
Weights = list[list[np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class Factoring:
    """One way to factor one layer.

    Attributes:
        calls: shapes of input and output, batch of one, of each call of the layer.
    """

    method: ClassVar[str]
    saves_flops: ClassVar[bool] = True

    layer: keras.Layer
    calls: tuple[Shapes, ...]

    @functools.cached_property
    def spectra(self) -> tuple[Spectrum, ...]:
        """One spectrum for each rank that can be chosen."""
        raise NotImplementedError

    @property
    def full_params(self) -> int:
        """Weights of the layer as it is, without the bias."""
        return math.prod(self.layer.kernel.shape)

    @property
    def full_macs(self) -> int:
        """Multiply-accumulates of all calls of the layer as it is."""
        raise NotImplementedError

    def macs(self, ranks: Ranks) -> int:
        """Multiply-accumulates of all calls."""
        raise NotImplementedError

    def params(self, ranks: Ranks) -> int:
        """Weights without the bias."""
        raise NotImplementedError

    def layers(self, ranks: Ranks) -> list[keras.Layer]:
        """New layers, to be called one after another."""
        raise NotImplementedError

    def weights(self, ranks: Ranks) -> Weights:
        """The weights of each of these layers."""
        raise NotImplementedError

    def error(self, ranks: Ranks) -> float:
        """Squared error of the product: the sum of the squared singular values that are dropped."""
        return self.spectra[0].dropped(ranks[0])

    def ranks_of_share(self, share: float) -> Ranks:
        """This share of every full rank, rounded up."""
        return tuple(math.ceil(round(share * spectrum.full, 6)) for spectrum in self.spectra)

    def ranks_of_energy(self, energy: float) -> Ranks:
        """The smallest ranks that keep this share of the squared singular values."""
        allowed = [(1 - energy) * spectrum.energy / len(self.spectra) for spectrum in self.spectra]
        return tuple(spectrum.rank_within(error) for spectrum, error in zip(self.spectra, allowed, strict=True))

    def _last(self, edits: dict[str, Any] | None = None) -> keras.Layer:
        """The layer that takes the original's place: its name, bias and activation."""
        return clone(self.layer, edits)

    def _first(self, kind: type[keras.Layer], suffix: str = "factor", **options: Any) -> keras.Layer:
        return kind(
            name=f"{self.layer.name}_{suffix}",
            dtype=self.layer.dtype_policy,
            trainable=self.layer.trainable,
            **options,
        )

    def _with_bias(self, kernel: np.ndarray) -> list[np.ndarray]:
        return [kernel] if self.layer.bias is None else [kernel, self.layer.bias.numpy()]


class DenseFactors(Factoring):
    """A Dense layer as two, by truncated singular value decomposition."""

    method = "svd"

    @functools.cached_property
    def spectra(self) -> tuple[Spectrum, ...]:
        return (Spectrum(self.layer.kernel.numpy()),)

    @property
    def full_macs(self) -> int:
        return self._positions * self.full_params

    @property
    def _positions(self) -> int:
        return sum(math.prod(entering[:-1]) for entering, _ in self.calls)

    def macs(self, ranks: Ranks) -> int:
        return self._positions * self.params(ranks)

    def params(self, ranks: Ranks) -> int:
        return ranks[0] * sum(self.layer.kernel.shape)

    def layers(self, ranks: Ranks) -> list[keras.Layer]:
        return [self._first(keras.layers.Dense, units=ranks[0], use_bias=False), self._last()]

    def weights(self, ranks: Ranks) -> Weights:
        left, right = self.spectra[0].factors(ranks[0])
        return [[left], self._with_bias(right)]


class EmbeddingFactors(Factoring):
    """An Embedding as a narrower one and a Dense layer: fewer parameters, and a few operations more."""

    method = "svd"
    saves_flops = False

    @functools.cached_property
    def spectra(self) -> tuple[Spectrum, ...]:
        return (Spectrum(self.layer.embeddings.numpy()),)

    @property
    def full_params(self) -> int:
        return math.prod(self.layer.embeddings.shape)

    @property
    def full_macs(self) -> int:
        return 0

    def macs(self, ranks: Ranks) -> int:
        return sum(math.prod(entering) for entering, _ in self.calls) * ranks[0] * self.layer.output_dim

    def params(self, ranks: Ranks) -> int:
        return ranks[0] * sum(self.layer.embeddings.shape)

    def layers(self, ranks: Ranks) -> list[keras.Layer]:
        layer = self.layer
        table = clone(layer, {"name": f"{layer.name}_factor", "output_dim": ranks[0]})
        projection = keras.layers.Dense(
            layer.output_dim,
            use_bias=False,
            name=layer.name,
            dtype=layer.dtype_policy,
            trainable=layer.trainable,
        )
        return [table, projection]

    def weights(self, ranks: Ranks) -> Weights:
        return [[factor] for factor in self.spectra[0].factors(ranks[0])]


class _ConvolutionFactors(Factoring):
    """What the three ways to factor a convolution share; its kernel is `(*window, inputs, outputs)`."""

    @property
    def _window(self) -> tuple[int, ...]:
        return tuple(self.layer.kernel.shape[:-2])

    @property
    def _inputs(self) -> int:
        return self.layer.kernel.shape[-2]

    @property
    def _outputs(self) -> int:
        return self.layer.kernel.shape[-1]

    def _kernel(self) -> np.ndarray:
        return self.layer.kernel.numpy().astype(np.float64)

    @property
    def full_macs(self) -> int:
        return self._positions(1) * self.full_params

    def _positions(self, side: int) -> int:
        return sum(math.prod(_grid(self.layer, shapes[side])) for shapes in self.calls)

    def _pointwise(self, filters: int) -> dict[str, Any]:
        ones = (1,) * len(self._window)
        return {
            "filters": filters,
            "kernel_size": ones,
            "strides": ones,
            "dilation_rate": ones,
            "padding": "valid",
        }

    def _windowed(self, filters: int) -> dict[str, Any]:
        layer = self.layer
        return {
            "filters": filters,
            "kernel_size": layer.kernel_size,
            "strides": layer.strides,
            "dilation_rate": layer.dilation_rate,
            "padding": layer.padding,
        }

    def _without_bias(self, suffix: str, options: dict[str, Any]) -> keras.Layer:
        data_format = self.layer.data_format
        return self._first(type(self.layer), suffix, use_bias=False, data_format=data_format, **options)


class ChannelFactors(_ConvolutionFactors):
    """A narrow convolution and a 1x1 convolution (Zhang et al. 2016, https://arxiv.org/abs/1505.06798)."""

    method = "channel"

    @functools.cached_property
    def spectra(self) -> tuple[Spectrum, ...]:
        return (Spectrum(self._kernel().reshape(-1, self._outputs)),)

    def macs(self, ranks: Ranks) -> int:
        return self._positions(1) * self.params(ranks)

    def params(self, ranks: Ranks) -> int:
        return ranks[0] * (math.prod(self._window) * self._inputs + self._outputs)

    def layers(self, ranks: Ranks) -> list[keras.Layer]:
        first = self._without_bias("factor", self._windowed(ranks[0]))
        return [first, self._last(self._pointwise(self._outputs))]

    def weights(self, ranks: Ranks) -> Weights:
        left, right = self.spectra[0].factors(ranks[0])
        ones = (1,) * len(self._window)
        left = left.reshape(*self._window, self._inputs, ranks[0])
        return [[left], self._with_bias(right.reshape(*ones, ranks[0], self._outputs))]


class SpatialFactors(_ConvolutionFactors):
    """A column convolution and a row convolution (Jaderberg et al. 2014, https://arxiv.org/abs/1405.3866)."""

    method = "spatial"

    @functools.cached_property
    def spectra(self) -> tuple[Spectrum, ...]:
        height, width = self._window
        columns_first = self._kernel().transpose(0, 2, 1, 3)
        return (Spectrum(columns_first.reshape(height * self._inputs, width * self._outputs)),)

    def macs(self, ranks: Ranks) -> int:
        height, width = self._window
        between = 0
        for entering, leaving in self.calls:
            between += _grid(self.layer, leaving)[0] * _grid(self.layer, entering)[1]
        columns, rows = between * height * self._inputs, self._positions(1) * width * self._outputs
        return ranks[0] * (columns + rows)

    def params(self, ranks: Ranks) -> int:
        height, width = self._window
        return ranks[0] * (height * self._inputs + width * self._outputs)

    def layers(self, ranks: Ranks) -> list[keras.Layer]:
        first = self._without_bias("factor", {**self._along(0), "filters": ranks[0]})
        return [first, self._last(self._along(1))]

    def weights(self, ranks: Ranks) -> Weights:
        left, right = self.spectra[0].factors(ranks[0])
        height, width = self._window
        left = left.reshape(height, 1, self._inputs, ranks[0])
        right = right.reshape(1, ranks[0], width, self._outputs).transpose(0, 2, 1, 3)
        return [[left], self._with_bias(right)]

    def _along(self, axis: int) -> dict[str, Any]:
        options = self._windowed(0)
        along = {
            option: tuple(n if i == axis else 1 for i, n in enumerate(options[option]))
            for option in ("kernel_size", "strides", "dilation_rate")
        }
        return {**along, "padding": self.layer.padding}


class TuckerFactors(_ConvolutionFactors):
    """A 1x1 convolution, a narrow one, and a 1x1 convolution: Tucker's decomposition of both channel axes.

    Kim et al. 2016, https://arxiv.org/abs/1511.06530; truncated one axis after the other (Vannieuwenhoven et
    al. 2012, https://doi.org/10.1137/110836067), which makes the squared error the exact sum of what is
    dropped.
    """

    method = "tucker"

    @functools.cached_property
    def spectra(self) -> tuple[Spectrum, ...]:
        return _inward(self._kernel()), _outward(self._kernel())

    def error(self, ranks: Ranks) -> float:
        inner, outer = ranks
        core = self._kernel() @ self.spectra[1].right(outer)
        return self.spectra[1].dropped(outer) + _inward(core).dropped(inner)

    def macs(self, ranks: Ranks) -> int:
        inner, outer = ranks
        before = self._positions(0) * self._inputs * inner
        return before + self._positions(1) * outer * (math.prod(self._window) * inner + self._outputs)

    def params(self, ranks: Ranks) -> int:
        inner, outer = ranks
        return self._inputs * inner + outer * (math.prod(self._window) * inner + self._outputs)

    def layers(self, ranks: Ranks) -> list[keras.Layer]:
        inner, outer = ranks
        first = self._without_bias("factor1", self._pointwise(inner))
        middle = self._without_bias("factor2", self._windowed(outer))
        return [first, middle, self._last(self._pointwise(self._outputs))]

    def weights(self, ranks: Ranks) -> Weights:
        inner, outer = ranks
        leaving = self.spectra[1].right(outer)
        core = self._kernel() @ leaving
        entering = _inward(core).right(inner)
        core = np.swapaxes(np.swapaxes(core, -1, -2) @ entering, -1, -2)
        ones = (1,) * len(self._window)
        first = entering.reshape(*ones, self._inputs, inner)
        return [[first], [core], self._with_bias(leaving.T.reshape(*ones, outer, self._outputs))]


def ways(layer: keras.Layer, calls: Sequence[Shapes]) -> list[Factoring]:
    """All the ways that `layer` can be factored, none if it is of another kind."""
    shapes = tuple(calls)
    if type(layer) is keras.layers.Dense:
        return [DenseFactors(layer, shapes)]
    if type(layer) is keras.layers.Embedding:
        return [EmbeddingFactors(layer, shapes)]
    if type(layer) not in (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D) or layer.groups > 1:
        return []
    found: list[Factoring] = [ChannelFactors(layer, shapes)]
    if max(layer.kernel_size) > 1:
        found.append(TuckerFactors(layer, shapes))
    if len(layer.kernel_size) == 2 and min(layer.kernel_size) > 1:
        found.append(SpatialFactors(layer, shapes))
    return found


def _inward(kernel: np.ndarray) -> Spectrum:
    """The spectrum of a kernel unfolded along its inputs; its right vectors are a basis of the inputs."""
    return Spectrum(np.moveaxis(kernel, -2, -1).reshape(-1, kernel.shape[-2]))


def _outward(kernel: np.ndarray) -> Spectrum:
    return Spectrum(kernel.reshape(-1, kernel.shape[-1]))


def _grid(layer: keras.Layer, shape: tuple[int, ...]) -> tuple[int, ...]:
    axis = channel_axis(layer, len(shape))
    return tuple(n for i, n in enumerate(shape) if i not in (0, axis))
