"""`Report`: everything a compression measured, and its JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tfbig
from tfbig.errors import InvalidFile
from tfbig.files import atomic_file
from tfbig.measurement.inspection import Inspection
from tfbig.measurement.measure import Measurement
from tfbig.report.verdict import verdict

SCHEMA_VERSION = 1
_LATER = ("sensitivity",)  # fields that came after the first reports of this version


@dataclasses.dataclass(frozen=True)
class Row:
    """One stage: its name, what its file measured, and how long it took."""

    stage: str
    measurement: Measurement
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Report:
    """What was done and what came of it; the first row is the one that the others are compared with.

    Its JSON is described by `tfbig.report.schema.SCHEMA`, whose version is `SCHEMA_VERSION`.
    """

    title: str
    rows: tuple[Row, ...]
    histories: Mapping[str, Mapping[str, Sequence[float]]] = dataclasses.field(default_factory=dict)
    recipe: Mapping[str, Any] | None = None
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    float_ops: Mapping[str, Sequence[Mapping[str, str]]] = dataclasses.field(default_factory=dict)
    notes: Sequence[str] = ()
    files: Mapping[str, str] = dataclasses.field(default_factory=dict)
    inspections: Mapping[str, Inspection] = dataclasses.field(default_factory=dict)
    sensitivity: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(default_factory=dict)  # by file

    @property
    def verdict(self) -> str:
        """One sentence: what the last row is worth beside the first."""
        return verdict(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; numbers that JSON does not have (NaN, infinity) are None."""
        return {"schema_version": SCHEMA_VERSION, "tfbig": tfbig.__version__, "verdict": self.verdict} | {
            field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Report:
        """The inverse of `to_dict`.

        Raises:
            InvalidFile: another schema version, or fields are missing.
        """
        _check_version(values)
        try:
            known = {field.name: values[field.name] for field in dataclasses.fields(cls) if field.name not in _LATER}
            rows = tuple(_row(values) for values in known["rows"])
            inspections = {file: Inspection.from_dict(i) for file, i in known["inspections"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise InvalidFile(
                f"The report is not complete ({type(error).__name__}: {error}): expected what "
                "`Report.to_dict` gives. Write it again with Report.save."
            ) from error
        later = {name: values[name] for name in _LATER if name in values}
        return cls(**{**known, **later, "rows": rows, "inspections": inspections, "notes": tuple(known["notes"])})

    def save(self, path: str | os.PathLike) -> None:
        """Writes the JSON, whole or not at all."""
        with atomic_file(path) as partial:
            partial.write_text(json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike) -> Report:
        """Reads what `save` wrote.

        Raises:
            InvalidFile: no such file, not JSON, or not a report of this schema version.
        """
        if not Path(path).is_file():
            raise InvalidFile(f"No report `{path}`. Expected the report.json that `tfbig compress` writes.")
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise InvalidFile(f"`{path}` is not JSON ({error}). Write it again with Report.save.") from error
        return cls.from_dict(values)

    def __str__(self) -> str:
        from tfbig.report.table import text

        return text(self)


def _row(values: Mapping[str, Any]) -> Row:
    return Row(values["stage"], Measurement(**values["measurement"]), values["seconds"])


def _check_version(values: Any) -> None:
    version = values.get("schema_version") if isinstance(values, Mapping) else None
    if version != SCHEMA_VERSION:
        raise InvalidFile(
            f"The report has the schema version {version!r}, expected {SCHEMA_VERSION}. "
            "Read it with the tfbig that wrote it, or write it again with this one."
        )


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
