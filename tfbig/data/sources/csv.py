"""`csv:PATH`: a table of numbers; the label is the column `label`, `target` or `class`, else the last."""

from __future__ import annotations

import array
import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfbig.data.arrays import from_arrays
from tfbig.data.dataset import Data, LoadOptions
from tfbig.data.text_file import read_text
from tfbig.errors import InvalidData

ARGUMENT = "PATH"
LABELS = ("label", "target", "class")
MISSING = ("", "na", "n/a", "nan", "null", "none", "?")


def recognises(path: str) -> bool:
    return path.endswith(".csv")


def load(argument: str, options: LoadOptions) -> Data:
    """Loads rows as float32 vectors of shape `(columns,)`, cut into splits and stratified.

    Commas, semicolons and tabs separate columns, whichever the first line has most of. A first line without
    numbers, or with one of the label names, is the header. Labels are whole numbers or names.

    Raises:
        InvalidFile: missing, or not UTF-8.
        InvalidData: a missing value, a text among the features, or a row of another length; the message has
            its place.
    """
    rows = _rows(Path(argument))
    _, first = next(rows, (0, []))
    if len(first) < 2:
        raise InvalidData(f"`{argument}` must have at least a feature and a label column, received {first}.")
    header = first if _is_header(first) else None
    names = header or [f"column {i}" for i in range(1, len(first) + 1)]
    label = next((i for i, name in enumerate(names) if name.lower() in LABELS), len(names) - 1)
    table = _Table(argument, names, label)
    if header is None:
        table.add(1, first)
    for line, row in rows:
        table.add(line, row)
    if not table.labels:
        raise InvalidData(f"`{argument}` has a header but no rows.")
    return from_arrays({"train": table.arrays()}, options)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields the line number and the cells of each row that is not blank."""
    text = read_text(path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise InvalidData(f"`{path}`, line {reader.line_num}: {error}.") from error


def _is_header(cells: list[str]) -> bool:
    return any(cell.lower() in LABELS for cell in cells) or all(_number(cell) is None for cell in cells)


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


class _Table:
    """Rows read so far, as packed floats."""

    def __init__(self, path: str, names: list[str], label: int):
        self.path, self.names, self.label = path, names, label
        self.values, self.labels = array.array("f"), list[str]()

    def add(self, line: int, row: list[str]) -> None:
        if len(row) != len(self.names):
            raise InvalidData(f"`{self.path}`, line {line}: expected {len(self.names)} columns, received {len(row)}.")
        for name, cell in zip(self.names, row, strict=True):
            if cell.lower() in MISSING:
                raise InvalidData(
                    f"`{self.path}`, line {line}: column '{name}' has no value (received '{cell}'). "
                    "Fill in or remove rows with missing values."
                )
        self.labels.append(row[self.label])
        for i, cell in enumerate(row):
            if i != self.label:
                self.values.append(self._feature(line, self.names[i], cell))

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        x = np.frombuffer(self.values, np.float32).reshape(len(self.labels), len(self.names) - 1)
        numbers = [_number(label) for label in self.labels]
        numeric = [number for number in numbers if number is not None]
        return x, np.array(numeric if len(numeric) == len(numbers) else self.labels)

    def _feature(self, line: int, name: str, cell: str) -> float:
        number = _number(cell)
        if number is None or not math.isfinite(number):
            raise InvalidData(
                f"`{self.path}`, line {line}: column '{name}' must hold numbers, received '{cell}'. "
                "Turn text columns into numbers (one-hot, ids) or remove them."
            )
        return number
