"""`Tokenizer`: text as word ids, the same in training and on the device, for it is plain Python and one JSON file."""

from __future__ import annotations

import collections
import dataclasses
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfbig.data.dataset import Data
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile, check_count

PADDING, UNKNOWN = "[PAD]", "[UNK]"  # ids 0 and 1
_WORD = re.compile(r"[^\W\d_]+|\d+|_|[^\w\s]")
_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """Turns texts into rows of ids: words, numbers and single signs, in lower case.

    `keras.layers.TextVectorization` holds a table of strings, which LiteRT cannot. This one is ordinary code beside the
    model; put its JSON into the model's file with `associated_files={"tokenizer.json": tokenizer.to_json()}`, and
    whoever has the file has the tokenizer.

    Args:
        vocabulary: token of each id; the first is for padding, the second for unknown words.
        length: ids of each text; longer texts are cut, shorter ones padded with 0.
        fold_digits: write every digit as 0, so that numbers count by their length.
    """

    vocabulary: tuple[str, ...]
    length: int
    fold_digits: bool = False

    def __post_init__(self) -> None:
        check_count("length", self.length)
        if len(set(self.vocabulary)) < len(self.vocabulary) or self.vocabulary[:2] != (PADDING, UNKNOWN):
            raise InvalidArgument(
                f"`vocabulary` must begin with '{PADDING}' and '{UNKNOWN}' and hold each token once. Make it with "
                "Tokenizer.fit."
            )
        object.__setattr__(self, "_ids", {token: index for index, token in enumerate(self.vocabulary)})

    @classmethod
    def fit(
        cls,
        texts: Any,
        *,
        size: int = 10_000,
        length: int = 64,
        fold_digits: bool = False,
        specials: Sequence[str] = (),
    ) -> Tokenizer:
        """The tokenizer whose vocabulary is the most frequent tokens of `texts`.

        Args:
            texts: strings, or a `tf.data.Dataset` of batches `(texts, labels)`.
            size: tokens in the vocabulary at most, specials included, 3 or more.
            specials: tokens that get the ids from 2 on, such as "[START]"; no text has them.

        Raises:
            InvalidData: no text has a token.
        """
        check_count("size", size, low=3 + len(specials))
        blank = cls((PADDING, UNKNOWN, *specials), length, fold_digits)
        counts = collections.Counter(token for text in _texts(texts) for token in blank.split(text))
        if not counts:
            raise InvalidData("`texts` has no words, expected at least one. Check where the texts came from.")
        # By count, then by alphabet: the order of the texts must not matter.
        frequent = sorted(counts, key=lambda token: (-counts[token], token))
        return dataclasses.replace(blank, vocabulary=(*blank.vocabulary, *frequent)[:size])

    def split(self, text: str | bytes) -> list[str]:
        """The tokens of a text."""
        words = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).lower()
        return _WORD.findall(re.sub(r"\d", "0", words) if self.fold_digits else words)

    def encode(self, texts: Iterable[str | bytes]) -> np.ndarray:
        """The ids of texts, int32 `(texts, length)`."""
        ids: dict[str, int] = self._ids  # type: ignore[attr-defined]
        rows = [[ids.get(token, 1) for token in self.split(text)[: self.length]] for text in texts]
        encoded = np.zeros((len(rows), self.length), np.int32)
        for row, found in zip(encoded, rows, strict=True):
            row[: len(found)] = found
        return encoded

    def decode(self, ids: Any) -> list[str]:
        """The tokens of each row of ids, joined by spaces; padding is left out."""
        return [" ".join(self.vocabulary[i] for i in row if i) for row in np.asarray(ids)]

    def applied_to(self, data: Data) -> Data:
        """`data` of strings as data of ids `(length,)`, int32."""
        if data.spec.dtype != "string" or data.spec.input_shape != ():
            raise InvalidData(
                f"A tokenizer takes single texts, received inputs of type {data.spec.dtype} and shape "
                f"{data.spec.input_shape}. Load them with tfbig.data.load('text:PATH')."
            )
        splits = {name: getattr(data, name) for name in ("train", "validation", "test")}
        encoded = {name: split and split.map(self._tensor) for name, split in splits.items()}
        return Data(**encoded, spec=dataclasses.replace(data.spec, input_shape=(self.length,), dtype="int32"))

    def to_json(self) -> str:
        """The tokenizer as JSON text."""
        return json.dumps({"version": _VERSION, **dataclasses.asdict(self)}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Tokenizer:
        """The inverse of `to_json`.

        Raises:
            InvalidFile: the text is not JSON, or no tokenizer.
        """
        try:
            values = json.loads(text)
            if values.pop("version") != _VERSION:
                raise ValueError("its version is another")
            return cls(**{**values, "vocabulary": tuple(values["vocabulary"])})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidFile(f"The text is no tokenizer: {error}. Expected what Tokenizer.to_json gives.") from error

    def _tensor(self, texts: tf.Tensor, labels: Any) -> tuple[tf.Tensor, Any]:
        ids = tf.numpy_function(self.encode, [texts], tf.int32, stateful=False)
        return tf.ensure_shape(ids, (None, self.length)), labels


def _texts(source: Any) -> Iterable[str | bytes]:
    if not hasattr(source, "element_spec"):
        return source
    return (text for texts, *_ in source.as_numpy_iterator() for text in texts)
