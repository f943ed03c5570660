"""The type that weights, and with most types activations, are rounded to."""

from __future__ import annotations

from typing import Any

from tfbig.compression.techniques.quantize import Quantize
from tfbig.errors import unknown
from tfbig.tuning.choice import Choice

_HARM = {"float32": 0.0, "int16x8": 0.0, "int8": 0.1, "int4": 0.5}


class Bits(Choice):
    place = 5
    values = tuple(_HARM)
    unchanged = "float32"
    technique = Quantize
    option = "dtype"
    rivals = 2  # "int4" is smaller than "int8" and not always as fast.

    def checked(self, argument: str, value: Any) -> str:
        if value not in self.values:
            raise unknown(f"value of `{argument}`:", value, self.values)
        return value

    def size(self, value: str) -> float:
        return -self.values.index(value)

    def harm(self, value: str) -> float:
        return _HARM[value]


choice = Bits()
