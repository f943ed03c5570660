"""`Quantize`: the model learns to work with the integers that the device will compute with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import keras

from tfbig.compression.native.affine import is_too_coarse
from tfbig.compression.native.clone import check_keras_model, clone
from tfbig.compression.native.clustering import Clustering
from tfbig.compression.native.kernels import check_patterns, compressible_kernels, matches, names_layer
from tfbig.compression.native.machine import Machine
from tfbig.compression.native.prepared import check_prepared, is_prepared_with, prepare
from tfbig.compression.native.preserving import has_clusters
from tfbig.compression.native.quantizing import Quantizing
from tfbig.compression.technique import Engine, check_choice
from tfbig.compression.techniques.preserve import Preserve
from tfbig.compression.tfmot.engine import TwoEngines
from tfbig.compression.tfmot.quantize_configs import serialized
from tfbig.errors import InvalidArgument, check_range

_BITS = {"int8": (8, 8), "int16x8": (8, 16), "int4": (4, 8)}


@dataclasses.dataclass(frozen=True)
class Quantize(TwoEngines):
    """Trains the model under the rounding that its integer LiteRT file will do (quantization-aware training).

    In the model: weights are rounded symmetrically, one scale per output channel; activations with one scale per
    tensor, whose range is a moving average of what training batches show. `finish` keeps the ranges: export the
    finished model, and the file computes in integers with just these scales. At inference the model computes the very
    integers of that file under LiteRT's default kernels (XNNPACK), where activations have 8 bits.

    Args:
        dtype: "int8" (8-bit weights and activations), "int16x8" (16-bit activations), "int4" (4-bit weights where
            LiteRT has the kernels: convolutions and fully connected layers, 8-bit elsewhere).
        exempt: names, globs or types of layers that stay float.
        preserve: keep the zeros and the clusters that the weights have, see `Preserve`.
        momentum: weight of the past in the moving average of activation ranges, in [0, 1).
        freeze_after: steps (int) or share of the training (float in [0, 1]) after which ranges stay fixed; None: never.
        one_scale: filled in by `prepare`, for each weight tensor in the order of the layers: whether its channels share
            one scale. Clustered tensors of 8 bits do: their few values are then the same few integers in every channel,
            which compresses far better.
        configs: with engine="tfmot" alone: layer name, glob or layer type -> a TFMOT `QuantizeConfig` that says how
            these layers are quantized; the last match wins.
        engine: "native" for Keras 3 models, "tfmot" for TFMOT's own, "auto" to choose by the kind of model.

    Raises:
        InvalidArgument: an option outside its range; a pattern of `exempt` that matches no layer.
        InvalidModel: the model has no weights to quantize, or its `call` cannot be traced symbolically.

    Reference:
        Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
        Inference", https://arxiv.org/abs/1712.05877, section 3; per-channel weights: Krishnamoorthi 2018,
        https://arxiv.org/abs/1806.08342.
    """

    name: ClassVar[str] = "quantize"

    dtype: Literal["int8", "int16x8", "int4"] = "int8"
    exempt: Sequence[str] = ()
    preserve: bool = True
    momentum: float = 0.99
    freeze_after: int | float | None = None
    one_scale: Sequence[bool] = ()
    configs: Mapping[str, Any] | None = None
    engine: Engine = "auto"

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, tuple(_BITS))
        check_choice("engine", self.engine, ("auto", "native", "tfmot"))
        check_range("momentum", self.momentum, 0, 1, closed="left")
        if isinstance(self.freeze_after, float):
            check_range("freeze_after", self.freeze_after, 0, 1)
        object.__setattr__(self, "one_scale", tuple(self.one_scale))
        object.__setattr__(self, "exempt", (self.exempt,) if isinstance(self.exempt, str) else tuple(self.exempt))

    def get_config(self) -> dict[str, Any]:
        """The options that differ from their defaults, as plain JSON values."""
        config = super().get_config()
        return {**config, "configs": serialized(self.configs)} if self.configs else config

    def machine(self, model: keras.Model) -> Machine:
        kernels = compressible_kernels(model, min_size=1)
        tables = [x for x in model._flatten_layers() if isinstance(x, keras.layers.Normalization)]
        float_tables = [x for x in tables if any(names_layer(pattern, x) for pattern in self.exempt)]
        others = [p for p in self.exempt if not any(names_layer(p, x) for x in float_tables)]
        check_patterns("exempt", others, kernels)
        exempt = frozenset(id(k.layer) for k in kernels if any(matches(p, k) for p in self.exempt))
        exempt |= {id(layer) for layer in float_tables}
        weight_bits, activation_bits = _BITS[self.dtype]
        return Quantizing(
            model,
            kernels,
            exempt=exempt,
            one_scale=frozenset(id(k.variable) for k, one in zip(kernels, self.one_scale, strict=False) if one),
            weight_bits=weight_bits,
            activation_bits=activation_bits,
            momentum=self.momentum,
            freeze_after=self.freeze_after,
        )

    def prepare_natively(self, model: keras.Model) -> keras.Model:
        """Returns a copy of `model` that rounds as the integer file will, its zeros and clusters held."""
        check_keras_model(model)
        if self.configs:
            raise InvalidArgument(
                f"`configs` are TFMOT's, received configs for {', '.join(self.configs)} with the native engine. Use "
                "engine='tfmot', or leave them out."
            )
        keep = Preserve()
        if self.preserve and not is_prepared_with(keep, model) and keep.applies_to(model):
            model = keep.prepare(model)
        layers = [layer for layer in model._flatten_layers() if is_too_coarse(layer, _BITS[self.dtype][1])]
        exempt = (*self.exempt, *(layer.name for layer in layers if layer.name not in self.exempt))
        return prepare(dataclasses.replace(self, one_scale=self._sharing(model), exempt=exempt), model)

    def _sharing(self, model: keras.Model) -> list[bool]:
        if _BITS[self.dtype][0] < 8:
            return []  # The few levels of 4 bits are needed in every channel.
        clustering = [m for m in getattr(model, "machines", ()) if isinstance(m, Clustering) and not m.per_channel]
        being_clustered = {id(k.variable) for machine in clustering for k in machine.kernels}
        kernels = compressible_kernels(model, min_size=1)
        # Surely clustered: a few equal weights are not worth the precision of a scale for each channel.
        found = [id(k.variable) in being_clustered or has_clusters(k, weights_each=4) for k in kernels]
        return found if any(found) else []

    def finish_natively(self, model: keras.Model) -> keras.Model:
        """Returns a copy that still rounds: the ranges are part of the result, and export reads them."""
        twin = clone(check_prepared(self, model))
        return Preserve().finish(twin) if is_prepared_with(Preserve(), twin) else twin
