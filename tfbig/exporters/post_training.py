"""`PostTraining`: how a model that was not trained for integers is brought to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tfbig.errors import InvalidArgument, unknown
from tfbig.registry import Registry

calibrations = Registry("tfbig.exporters.calibrations", "calibration")
repairs = Registry("tfbig.exporters.repairs", "repair")
_EVERY = "all"
_DTYPES = ("int8", "int16x8", "int4")
_SCHEMES = (*_DTYPES, "float", "dynamic", "weight_only_int8", "weight_only_int4")


@dataclasses.dataclass(frozen=True)
class PostTraining:
    """Quantization after training, for `tfbig.export(model, path, quantize=PostTraining(...), calibration=data)`.

    Args:
        dtype: "int8", "int16x8" or "int4", as of `tfbig.export`.
        calibrate: how ranges of activations are chosen from the calibration data: "minmax", "percentile", "mse", "kl".
        repairs: what is done to the weights first: "equalization" of the channels between layers, "rounding" up or down
            as each layer's outputs want it, "reestimation" of the mean and spread of each layer's outputs,
            "bias_correction"; or "all". Each takes its turn in this order, and layers named in `schemes` are left out.
        schemes: globs of layer names -> "float", "int8", "int16x8", "int4", "dynamic", "weight_only_int8" or
            "weight_only_int4" for these layers; the last match wins.
        integer_io: make the inputs and outputs of the file integers too.

    Raises:
        InvalidArgument: an unknown name; the message gives the nearest.
    """

    dtype: str = "int8"
    calibrate: str = "minmax"
    repairs: Sequence[str] = ()
    schemes: Mapping[str, str] | None = None
    integer_io: bool = False

    def __post_init__(self) -> None:
        named = (self.repairs,) if isinstance(self.repairs, str) else tuple(self.repairs)
        object.__setattr__(self, "repairs", tuple(repairs.names()) if named == (_EVERY,) else named)
        if self.dtype not in _DTYPES:
            raise unknown("dtype of PostTraining", self.dtype, _DTYPES)
        if self.calibrate not in calibrations:
            raise unknown("calibration", self.calibrate, calibrations.names())
        for name in self.repairs:
            if name not in repairs:
                raise unknown("repair", name, [*repairs.names(), _EVERY])
        if len(set(self.repairs)) < len(self.repairs):
            raise InvalidArgument(f"`repairs` must name each repair once, received {', '.join(self.repairs)}.")
        for scheme in (self.schemes or {}).values():
            if scheme not in _SCHEMES:
                raise unknown("scheme in `schemes`", scheme, _SCHEMES)

    def options(self) -> dict[str, Any]:
        """The arguments of the quantizer in the child process."""
        schemes = dict(self.schemes or {})
        return {"method": self.calibrate, "repairs": self.repairs, "schemes": schemes, "integer_io": self.integer_io}
