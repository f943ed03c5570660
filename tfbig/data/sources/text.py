"""`text:PATH`: lines of `label<TAB>text`, as string tensors."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from tfbig.data.arrays import from_arrays
from tfbig.data.dataset import Data, LoadOptions
from tfbig.data.text_file import read_text
from tfbig.errors import InvalidData

ARGUMENT = "PATH"


def recognises(path: str) -> bool:
    return path.endswith((".tsv", ".txt"))


def load(argument: str, options: LoadOptions) -> Data:
    """Loads each line that is not blank as a string tensor of shape `()`, cut into stratified splits.

    Labels are whole numbers or names, which are numbered in alphabetical order.

    Raises:
        InvalidFile: missing, or not UTF-8.
        InvalidData: a line without a tab, without a label or without a text; the message has its number.
    """
    labels, texts = [], []
    for number, line in enumerate(io.StringIO(read_text(Path(argument)), newline=None), 1):
        if not line.strip():
            continue
        label, _, text = (part.strip() for part in line.partition("\t"))
        if not label or not text:
            raise InvalidData(f"`{argument}`, line {number}: expected label<TAB>text, received {line.strip()[:60]!r}.")
        labels.append(label)
        texts.append(text)
    if not texts:
        raise InvalidData(f"`{argument}` has no lines; expected label<TAB>text in each.")
    return from_arrays({"train": (np.array(texts, dtype=object), np.array(labels))}, options)
