"""The blocks of an encoder-decoder: one description makes the whole model, and its two parts out of a whole model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from tfbig.models.relative_attention import RelativeAttention, RelativePositionBias, Visible

Tensor = Any


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the encoder-decoder is made of; see `models.build("seq2seq")`."""

    vocabulary: int
    source_length: int
    target_length: int
    width: int
    depth: int
    decoder_depth: int
    heads: int
    mlp: int
    buckets: int
    max_distance: int
    dropout: float


class Blocks:
    """The blocks of one model. Each layer is made at its first use, or taken from a model that has it already.

    Args:
        sizes: for new layers; those that are taken bring their own.
        model: where to take them from; its dropout is left out, and layers that `LowRank` split are called in turn.
    """

    def __init__(self, sizes: Sizes, model: keras.Model | None = None):
        self.sizes, self.new = sizes, model is None
        self.layers = {} if model is None else {layer.name: layer for layer in model.layers}

    def layer(self, kind: type[keras.Layer], name: str, *args: Any, **options: Any) -> Callable[..., Tensor]:
        """The layer of this name."""
        if self.new and name not in self.layers:
            self.layers[name] = kind(*args, name=name, **options)
        found, factor = self.layers[name], self.layers.get(f"{name}_factor")
        return found if factor is None else lambda x: found(factor(x))

    def dense(self, x: Tensor, units: int, name: str, *, stddev: float, activation: str | None = None) -> Tensor:
        start = keras.initializers.RandomNormal(stddev=stddev)
        options = {"activation": activation, "use_bias": False, "kernel_initializer": start}
        return self.layer(layers.Dense, name, units, **options)(x)

    def norm(self, x: Tensor, name: str) -> Tensor:
        return self.layer(layers.RMSNormalization, name)(x)

    def dropped(self, x: Tensor, name: str) -> Tensor:
        share = self.sizes.dropout
        return self.layer(layers.Dropout, f"{name}_dropout", share)(x) if self.new and share else x

    def embedded(self, tokens: Tensor, name: str) -> Tensor:
        """Both sides share one embedding."""
        sizes = self.sizes
        start = keras.initializers.RandomNormal(stddev=1.0)
        table = self.layer(layers.Embedding, "embedding", sizes.vocabulary, sizes.width, embeddings_initializer=start)
        return self.dropped(table(tokens), name)

    def distances(self, side: str) -> Callable[..., Tensor]:
        sizes = self.sizes
        length = sizes.source_length if side == "encoder" else sizes.target_length
        options = {"causal": side == "decoder", "buckets": sizes.buckets, "max_distance": sizes.max_distance}
        return self.layer(RelativePositionBias, f"{side}_distances", sizes.heads, length, length, **options)

    def projected(self, x: Tensor, name: str, *roles: str) -> list[Tensor]:
        """Query, keys or values: the scale of the scores is in the initial weights of the query."""
        width = self.sizes.width
        head = width // self.sizes.heads
        scale = {"query": (width * head) ** -0.5}
        return [self.dense(x, width, f"{name}_{role}", stddev=scale.get(role, width**-0.5)) for role in roles]

    def attended(self, roles: list[Tensor], visible: Tensor, bias: Tensor | None, name: str) -> Tensor:
        """What `roles`, a query, keys and values, make of each other."""
        sizes = self.sizes
        attention = self.layer(RelativeAttention, f"{name}_attention", sizes.heads, sizes.dropout)
        mixed = attention(*roles, visible, bias=bias)
        return self.dense(mixed, sizes.width, f"{name}_output", stddev=sizes.width**-0.5)

    def added(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        return layers.Add(name=f"{name}_add")([x, self.dropped(y, name)])

    def perceptron(self, x: Tensor, name: str) -> Tensor:
        sizes = self.sizes
        y = self.norm(x, f"{name}_mlp_norm")
        y = self.dense(y, sizes.mlp, f"{name}_mlp1", stddev=sizes.width**-0.5, activation="relu")
        y = self.dense(y, sizes.width, f"{name}_mlp2", stddev=sizes.mlp**-0.5)
        return self.added(x, y, f"{name}_mlp")

    def encoded(self, source: Tensor) -> Tensor:
        """What the encoder makes of `source`: `(batch, source_length, width)`."""
        visible = self.layer(Visible, "source_visible", keys=self.sizes.source_length)(source)
        x, bias = self.embedded(source, "source"), self.distances("encoder")(source)
        for block in range(1, self.sizes.depth + 1):
            name = f"encoder{block}"
            y = self.norm(x, f"{name}_self_norm")
            roles = self.projected(y, f"{name}_self", "query", "key", "value")
            x = self.added(x, self.attended(roles, visible, bias, f"{name}_self"), f"{name}_self")
            x = self.perceptron(x, name)
        return self.dropped(self.norm(x, "encoder_norm"), "encoder")

    def crossing(self, encoded: Tensor) -> list[list[Tensor]]:
        """Keys and values of the source for each block of the decoder."""
        numbers = range(1, self.sizes.decoder_depth + 1)
        return [self.projected(encoded, f"decoder{block}_cross", "key", "value") for block in numbers]

    def decoded(
        self,
        x: Tensor,
        crossing: list[list[Tensor]],
        visible: tuple[Tensor, Tensor],
        bias: Tensor,
        remember: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]] = lambda block, keys, values: (keys, values),
    ) -> Tensor:
        """Logits for embedded targets.

        Args:
            visible: of the target, of the source.
            remember: gets a block's keys and values, and gives those to look at.
        """
        for block, source in enumerate(crossing, start=1):
            name = f"decoder{block}"
            y = self.norm(x, f"{name}_self_norm")
            query, keys, values = self.projected(y, f"{name}_self", "query", "key", "value")
            keys, values = remember(block, keys, values)
            y = self.attended([query, keys, values], visible[0], bias, f"{name}_self")
            x = self.added(x, y, f"{name}_self")
            (query,) = self.projected(self.norm(x, f"{name}_cross_norm"), f"{name}_cross", "query")
            y = self.attended([query, *source], visible[1], None, f"{name}_cross")
            x = self.perceptron(self.added(x, y, f"{name}_cross"), name)
        x = self.dropped(self.norm(x, "decoder_norm"), "decoder")
        start = keras.initializers.RandomNormal(stddev=self.sizes.width**-0.5)
        options = {"use_bias": False, "kernel_initializer": start, "dtype": "float32"}
        return self.layer(layers.Dense, "next_token", self.sizes.vocabulary, **options)(x)


def whole(sizes: Sizes) -> tuple[list[Tensor], Tensor]:
    """Inputs `source` and `target`, and the logits of each next token."""
    blocks = Blocks(sizes)
    source = keras.Input((sizes.source_length,), dtype="int32", name="source")
    target = keras.Input((sizes.target_length,), dtype="int32", name="target")
    crossing = blocks.crossing(blocks.encoded(source))
    not_ahead = blocks.layer(Visible, "target_visible", causal=True, keys=sizes.target_length)(target)
    visible = (not_ahead, blocks.layers["source_visible"](source))
    bias = blocks.distances("decoder")(target)
    return [source, target], blocks.decoded(blocks.embedded(target, "target"), crossing, visible, bias)
