"""What a device allows, in the user's units, and what is wanted beyond that."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from tfbig.errors import InvalidArgument, check_range, unknown
from tfbig.measurement.measure import Measurement
from tfbig.report.figures import count_text, latency_text, less_is_better, quality_text

OBJECTIVES = ("quality", "bytes", "gzip_bytes", "latency_ms", "macs")
_PENALTY = 2.0  # Being 10 % over a limit costs as much as 20 points of quality: no trial buys its way out.


@dataclasses.dataclass(frozen=True)
class Figures:
    """What a budget speaks of, measured on one file; None stands for what is not known."""

    quality: float | None
    quality_name: str
    bytes: int | None
    gzip_bytes: int | None
    latency_ms: float | None
    macs: int | None  # multiply-accumulates of one sample

    @classmethod
    def of(cls, measurement: Measurement, macs: int | None) -> Figures:
        names = {field.name for field in dataclasses.fields(cls)} - {"macs"}
        return cls(**{name: getattr(measurement, name) for name in names}, macs=macs)

    @property
    def merit(self) -> float:
        """The quality, negative where less is better."""
        quality = self.quality or 0.0
        return -quality if less_is_better(self.quality_name) else quality


@dataclasses.dataclass(frozen=True)
class Budget:
    """Hard limits on a file; None is no limit.

    Args:
        max_bytes: size of the file.
        max_gzip_bytes: size after gzip -9.
        max_latency_ms: median of one invocation in LiteRT on this machine, one thread.
        max_macs: multiply-accumulates of one sample.
        max_drop: loss of quality against the float model: a share for accuracies (0.01 is one point), else in the unit
            of the metric.
        min_quality: quality to reach; for errors such as mae, the largest one allowed.

    Raises:
        InvalidArgument: a limit that is not a number of its range.
    """

    max_bytes: float | None = None
    max_gzip_bytes: float | None = None
    max_latency_ms: float | None = None
    max_macs: float | None = None
    max_drop: float | None = None
    min_quality: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.limits().items():
            low = 0 if name in ("max_drop", "min_quality") else math.ulp(0.0)
            if isinstance(value, float) and math.isnan(value):
                raise InvalidArgument(f"`budget['{name}']` must be a number, received nan.")
            check_range(f"budget['{name}']", value, low, math.inf, closed="left")

    @classmethod
    def of(cls, given: Mapping[str, float] | Budget | None) -> Budget:
        """A budget from what a user gave.

        Raises:
            InvalidArgument: an unknown limit; the message names the nearest one.
        """
        if isinstance(given, Budget):
            return given
        if given is not None and not isinstance(given, Mapping):
            raise InvalidArgument(f"`budget` must be a mapping such as {{'max_bytes': 70_000}}, received {given!r}.")
        known = [field.name for field in dataclasses.fields(cls)]
        for name in given or {}:
            if name not in known:
                raise unknown("limit in `budget`:", name, known)
        return cls(**(given or {}))

    def limits(self) -> dict[str, float]:
        """The limits that are set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def check_objective(self, objective: str) -> None:
        """Raises `InvalidArgument` for an objective that does not exist, or that the limits leave without sense."""
        if objective not in OBJECTIVES:
            raise unknown("objective", objective, OBJECTIVES)
        if objective != "quality" and self.max_drop is None and self.min_quality is None:
            raise InvalidArgument(
                f"`objective`='{objective}' without a limit on quality would choose the file that is smallest or "
                "fastest however wrong it is. Add max_drop or min_quality to `budget`, such as 'max_drop': 0.01."
            )

    def check(self, base: Figures) -> None:
        """Raises `InvalidArgument` for limits that contradict each other for the float model."""
        if base.quality is None or self.min_quality is None or self.max_drop is None:
            return
        asked = -self.min_quality if less_is_better(base.quality_name) else self.min_quality
        if asked > base.merit:
            text = quality_text(base.quality, base.quality_name)
            raise InvalidArgument(
                f"`budget` contradicts itself: min_quality={self.min_quality:g} asks for more than the float model has "
                f"({base.quality_name} {text}), max_drop={self.max_drop:g} allows a loss. Leave one of them out."
            )

    def excess(self, figures: Figures, base: Figures | None) -> dict[str, float]:
        """How far each broken limit is exceeded, as a share of the limit; a figure that is not known breaks none.

        Args:
            base: the float model's figures; without them, limits on quality are not looked at.
        """
        found = {}
        for name, limit in self.limits().items():
            if name.startswith("max_") and name != "max_drop":
                value = getattr(figures, name.removeprefix("max_"))
                found[name] = value / limit - 1 if value is not None else 0.0
        if base is not None and figures.quality is not None:
            found |= self._excess_in_quality(figures, base)
        return {name: over for name, over in found.items() if over > 1e-9}

    def _excess_in_quality(self, figures: Figures, base: Figures) -> dict[str, float]:
        found = {}
        if self.max_drop is not None:
            found["max_drop"] = (base.merit - self.max_drop - figures.merit) / _scale(base)
        if self.min_quality is not None:
            asked = -self.min_quality if less_is_better(base.quality_name) else self.min_quality
            found["min_quality"] = (asked - figures.merit) / _scale(base)
        return found

    def score(self, figures: Figures, base: Figures, objective: str) -> float:
        """What the search maximizes: the objective, less a penalty for every broken limit."""
        penalty = sum(min(1.0, over) for over in self.excess(figures, base).values())
        if objective == "quality":
            return figures.merit / _scale(base) - _PENALTY * penalty
        before, after = getattr(base, objective), getattr(figures, objective)
        return (math.log(before / after) if before and after else 0.0) - _PENALTY * penalty

    def told(self, figures: Figures, base: Figures) -> str:
        """Each broken limit with what was reached: "57,120 bytes of at most 50,000 (14.2 % over)"."""
        return " and ".join(self._told(name, over, figures, base) for name, over in self.excess(figures, base).items())

    def _told(self, name: str, over: float, figures: Figures, base: Figures) -> str:
        limit = getattr(self, name)
        if name == "max_drop":
            return f"a drop of {base.merit - figures.merit:.4g} of at most {limit:g}"
        if name == "min_quality":
            return f"{figures.quality_name} {quality_text(figures.quality, figures.quality_name)}, asked for {limit:g}"
        value, kind = getattr(figures, name.removeprefix("max_")), name.removeprefix("max_").replace("_", " ")
        texts = (latency_text(value), latency_text(limit)) if name == "max_latency_ms" else _counts(value, limit)
        return f"{texts[0]} {kind} of at most {texts[1]} ({over * 100:.1f} % over)"


def _counts(value: float, limit: float) -> tuple[str, str]:
    return count_text(round(value)), count_text(round(limit)) if limit >= 1 else f"{limit:g}"


def _scale(base: Figures) -> float:
    """One for shares, else the float model's own error."""
    return abs(base.quality or 0.0) or 1.0 if less_is_better(base.quality_name) else 1.0
