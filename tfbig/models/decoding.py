"""Writing one token after another: greedily, or by beam search. Needs NumPy alone, whatever computes the scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tfbig.errors import InvalidArgument, check_count, check_range

Arrays = Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Writer:
    """Writes targets with an encoder and a step of a decoder, be they Keras models or LiteRT files.

    Attributes:
        encode: from source ids `(batch, S)` to what the decoder needs of them, arrays with the batch axis first.
        decode_step: from the source ids, those arrays, the last token `(batch, 1)`, its position `(batch,)`, and the
            cache, to logits `(batch, vocabulary)` and the new cache.
        cache: shape of each array of the cache, without the batch axis.
        start: id that stands before each target.
        end: id that ends it.
        max_length: tokens to write at most.
        beams: 1 writes the likeliest token each time; more keep that many beginnings.
        length_penalty: power of the length that the score of a beam is divided by.

    Reference:
        Wu et al., "Google's Neural Machine Translation System", arXiv:1609.08144, section 7 (beam search).
    """

    encode: Callable[[np.ndarray], Arrays]
    decode_step: Callable[..., Arrays]
    cache: Sequence[tuple[int, ...]]
    start: int
    end: int
    max_length: int
    beams: int = 1
    length_penalty: float = 1.0

    def __post_init__(self) -> None:
        for name in ("beams", "max_length"):
            check_count(name, getattr(self, name))
        longest = self.cache[0][0]
        if self.max_length > longest:
            raise InvalidArgument(
                f"`max_length` must be at most the target length, {longest}, received {self.max_length}."
            )
        check_range("length_penalty", self.length_penalty, 0, 10)

    def __call__(self, source: np.ndarray) -> np.ndarray:
        """Ids `(batch, max_length)`, without the start token; behind the end token is 0."""
        source = np.asarray(source, "int32")
        batch, beams = len(source), self.beams
        memory = [np.repeat(array, beams, axis=0) for array in self.encode(source)]
        source = np.repeat(source, beams, axis=0)
        cache: list[np.ndarray] = [np.zeros((batch * beams, *shape), "float32") for shape in self.cache]
        written = np.zeros((batch, beams, self.max_length), "int32")
        scores = np.where(np.arange(beams) == 0, 0.0, -np.inf) * np.ones((batch, 1))  # At first all beams are one.
        token = np.full((batch, beams), self.start, "int32")
        for place in range(self.max_length):
            position = np.full(batch * beams, place, "int32")
            logits, *grown = self.decode_step(source, *memory, token.reshape(-1, 1), position, *cache)
            scores, beam, token = self._best(_log_softmax(logits).reshape(batch, beams, -1), scores, written)
            written = np.take_along_axis(written, beam[..., None], axis=1)
            written[:, :, place] = token
            if self._ended(written).all():
                break
            rows = (np.arange(batch)[:, None] * beams + beam).ravel()
            cache = [np.asarray(array)[rows] for array in grown]
        return written[:, 0]

    def _best(self, tokens: np.ndarray, scores: np.ndarray, written: np.ndarray) -> tuple[np.ndarray, ...]:
        """The best continuations of each source: their scores, the beams they continue, and their last tokens.

        Args:
            tokens: log-probability of each next token, `(batch, beams, vocabulary)`.
            scores: log-probability of each beam so far, `(batch, beams)`.
        """
        ended = self._ended(written)
        padding = np.where(np.arange(tokens.shape[-1]) == 0, 0.0, -np.inf)
        totals = scores[..., None] + np.where(ended[..., None], padding, tokens)
        lengths = np.count_nonzero(written, axis=-1) + ~ended
        ranks = (totals / np.maximum(lengths, 1)[..., None] ** self.length_penalty).reshape(len(scores), -1)
        best = np.argsort(-ranks, axis=1, kind="stable")[:, : self.beams]
        beam, token = np.divmod(best, tokens.shape[-1])
        return np.take_along_axis(totals.reshape(len(scores), -1), best, axis=1), beam, token.astype("int32")

    def _ended(self, written: np.ndarray) -> np.ndarray:
        return (written == self.end).any(axis=-1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Padding, id 0, is never written."""
    logits = np.array(logits, "float64")
    logits[..., 0] = -np.inf
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
