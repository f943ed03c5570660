"""What `debug` returns: where a LiteRT file departs from its Keras model, and which layers to leave in float."""

from __future__ import annotations

import dataclasses
import io
import math
from typing import Any

from tfbig.compression.recipe import Recipe

_SHOWN = 10  # layers in the printed ranking


@dataclasses.dataclass(frozen=True)
class LayerError:
    """One tensor of the file beside the same tensor of the Keras model, over all samples."""

    layer: str
    tensor: str  # its name in the file
    type: str  # of the operation that makes it
    dtype: str  # that the file holds it in
    snr_db: float | None  # 10 log10(signal power / error power); None where the file gives the very numbers
    cosine: float  # similarity in [-1, 1]
    max_error: float
    max_error_steps: float | None  # the same in quantization steps; None for tensors that are not integers


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """What quantizing one layer alone does to the outputs of the model."""

    layer: str
    snr_db: float | None  # of the outputs; None where it changes nothing
    share: float  # of the noise of all layers, each alone, in [0, 1]
    can_be_exempt: bool  # it has weights, so that `Quantize(exempt=...)` can name it


@dataclasses.dataclass(frozen=True)
class Trial:
    """The outputs with the worst layers left in float."""

    exempt: tuple[str, ...]
    snr_db: float | None
    snr_db_before: float | None  # with all layers quantized
    bytes: int
    bytes_before: int

    @property
    def helps(self) -> bool:
        """Whether the outputs win a decibel or more."""
        return self._wins(1.0)

    @property
    def hurts(self) -> bool:
        """Whether they win nothing at all."""
        return not self._wins(0.0)

    def _wins(self, decibels: float) -> bool:
        if self.snr_db is None or self.snr_db_before is None:
            return self.snr_db_before is not None
        return self.snr_db > self.snr_db_before + decibels


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """A LiteRT file beside its Keras model, layer by layer."""

    file: str
    scheme: str
    samples: int
    layers: tuple[LayerError, ...]  # in the order of computation
    sensitivity: tuple[Sensitivity, ...] = ()  # the worst first
    trial: Trial | None = None
    recipe: Recipe | None = None  # quantizes all but the worst layers; None where that wins nothing
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        values["layers"] = [dataclasses.asdict(layer) for layer in self.layers]
        values["sensitivity"] = [dataclasses.asdict(layer) for layer in self.sensitivity]
        values["trial"] = dataclasses.asdict(self.trial) if self.trial else None
        values["recipe"] = self.recipe.get_config() if self.recipe else None
        return values

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=160, no_color=True, highlight=False, record=True)
        console.print(_layer_table(self))
        if self.sensitivity:
            console.print(_sensitivity_table(self))
        lines = [line.rstrip() for line in console.export_text(styles=False).splitlines()]
        return "\n".join([*lines, *_summary(self)])


def decibels(noise: float) -> float | None:
    """A ratio of noise power to signal power as a signal-to-noise ratio; None without noise."""
    return -10 * math.log10(noise) if noise > 0 else None


def _layer_table(diagnosis: Diagnosis) -> Any:
    table = _table(
        f"{diagnosis.file} ({diagnosis.scheme}) beside the Keras model, {diagnosis.samples} samples",
        ("layer", "op", "dtype"),
        ("SNR dB", "cosine", "max error", "in steps"),
    )
    for e in diagnosis.layers:
        steps = "" if e.max_error_steps is None else f"{e.max_error_steps:.1f}"
        table.add_row(e.layer, e.type, e.dtype, _db(e.snr_db), f"{e.cosine:.5f}", f"{e.max_error:.3g}", steps)
    return table


def _sensitivity_table(diagnosis: Diagnosis) -> Any:
    table = _table("Quantized alone: what each layer does to the outputs", ("layer",), ("SNR dB", "share of noise"))
    for s in diagnosis.sensitivity[:_SHOWN]:
        table.add_row(s.layer, _db(s.snr_db), f"{s.share:.1%}")
    if (more := len(diagnosis.sensitivity) - _SHOWN) > 0:
        table.add_row(f"... and {more} more", "", "")
    return table


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    for name in left:
        table.add_column(name, no_wrap=True)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _summary(diagnosis: Diagnosis) -> list[str]:
    lines = []
    if trial := diagnosis.trial:
        lines.append(
            f"With {', '.join(trial.exempt)} in float the outputs go from {_db(trial.snr_db_before)} to "
            f"{_db(trial.snr_db)} dB, and the file from {trial.bytes_before:,} to {trial.bytes:,} bytes."
        )
        if trial.hurts:
            lines.append("No layer stands out: leaving the worst in float wins nothing. Leave all as they are.")
        elif not trial.helps:
            lines.append("No layer stands out: leaving the worst in float hardly helps.")
    if diagnosis.recipe:
        exempt = ", ".join(repr(name) for name in diagnosis.trial.exempt) if diagnosis.trial else ""
        dtype = diagnosis.recipe.stages[0][0].get_config().get("dtype", "int8")
        lines.append(f"To train it so: tfbig.Quantize({dtype!r}, exempt=[{exempt}]), which is the recipe.")
    return lines + [f"Note: {note}" for note in diagnosis.notes]


def _db(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"
