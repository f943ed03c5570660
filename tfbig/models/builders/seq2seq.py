"""Sequence to sequence: a T5-style encoder and decoder."""

from __future__ import annotations

from tfbig.errors import InvalidArgument, check_count, check_range
from tfbig.models.encoder_decoder import Sizes, whole
from tfbig.models.seq2seq import Seq2Seq


def build(
    *,
    vocabulary: int = 8000,
    source_length: int = 64,
    target_length: int = 64,
    width: int = 128,
    depth: int = 2,
    decoder_depth: int | None = None,
    heads: int = 4,
    mlp: int = 256,
    buckets: int = 32,
    max_distance: int = 128,
    dropout: float = 0.1,
    name: str = "seq2seq",
) -> Seq2Seq:
    """Turns one sequence of token ids into another: an encoder reads, a decoder writes, both know relative positions.

    Id 0 is padding, which is never looked at in the source. In training `target` is the wanted sequence moved one
    place to the right behind a start token; the loss is
    `keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)`. Afterwards `model.generate(source,
    start=, end=)` writes, greedily or by beam search, and `model.parts()` are the encoder and the decoder's step with
    its key/value cache, each a model to export. Source and target share the vocabulary and its embedding.

    Args:
        vocabulary: number of token ids, which are 0 (padding) to n - 1.
        source_length: places of the source.
        target_length: places of the target.
        width: width of each token's vector, a multiple of `heads`.
        depth: encoder blocks.
        decoder_depth: decoder blocks; as many as `depth` unless given.
        heads: attention heads of each block.
        mlp: hidden width of each block's perceptron.
        buckets: kinds of relative distance that are told apart, an even number >= 4.
        max_distance: distance from which on all are one kind, > `buckets` / 2.
        dropout: share dropped in training after embedding, attention and perceptron, in [0, 1).

    Returns:
        A Functional model from two inputs `source` and `target`, whole numbers `(batch, source_length)` and `(batch,
        target_length)`, to logits `(batch, target_length, vocabulary)` in float32.

    Raises:
        InvalidArgument: a value out of range.

    Reference:
        Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
        JMLR 21, 2020, section 2.1 (here with an output layer of its own, as in version 1.1).
    """
    counts = {"source_length": source_length, "target_length": target_length, "width": width, "depth": depth}
    counts |= {"heads": heads, "mlp": mlp}
    counts |= {} if decoder_depth is None else {"decoder_depth": decoder_depth}
    for argument, value in counts.items():
        check_count(argument, value)
    check_count("vocabulary", vocabulary, low=2)
    check_count("buckets", buckets, low=4)
    check_range("dropout", dropout, 0, 1, closed="left")
    if width % heads:
        raise InvalidArgument(f"`width` must be a multiple of `heads`, received width={width} and heads={heads}.")
    if buckets % 2 or max_distance <= buckets // 2:
        raise InvalidArgument(
            "`buckets` must be even and `max_distance` more than half of it, received "
            f"buckets={buckets} and max_distance={max_distance}."
        )
    sizes = Sizes(
        vocabulary=vocabulary,
        source_length=source_length,
        target_length=target_length,
        width=width,
        depth=depth,
        decoder_depth=decoder_depth or depth,
        heads=heads,
        mlp=mlp,
        buckets=buckets,
        max_distance=max_distance,
        dropout=dropout,
    )
    return Seq2Seq(*whole(sizes), name=name)
