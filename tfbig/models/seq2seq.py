"""An encoder-decoder as a model that writes, and as its two parts: the encoder, and the decoder's step with a cache."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from tfbig.errors import InvalidArgument, InvalidModel
from tfbig.models.decoding import Writer
from tfbig.models.encoder_decoder import Blocks, Sizes
from tfbig.models.relative_attention import Columns, Written

Tensor = Any


@keras.saving.register_keras_serializable(package="tfbig")
class Seq2Seq(keras.Model):
    """A Functional model from `source` and `target` to logits that can also write; see `models.build("seq2seq")`."""

    def parts(self) -> Parts:
        """The encoder and the decoder's step, which share the weights of this model."""
        return parts(self)

    def generate(
        self,
        source: np.ndarray,
        *,
        start: int,
        end: int,
        beams: int = 1,
        length_penalty: float = 1.0,
        max_length: int | None = None,
    ) -> np.ndarray:
        """Writes a target for each source: the likeliest token each time, or the best of several `beams`.

        Args:
            source: token ids `(batch, source_length)`, padded with 0.
            start: id that stands before each target.
            end: id that ends it.
            beams: 1 is greedy; more keep that many beginnings (beam search).
            length_penalty: power of the length by which the score of a beam is divided, in [0, 10].
            max_length: tokens to write at most; the model's target length unless given.

        Returns:
            Token ids `(batch, max_length)` without `start`; behind `end` there is 0.

        Raises:
            InvalidArgument: a value out of range, or a source of another length.
        """
        length = self.inputs[0].shape[1]
        if np.ndim(source) != 2 or np.shape(source)[1] != length:
            raise InvalidArgument(
                f"`source` must be token ids (batch, {length}), received the shape {np.shape(source)}. Pad each with "
                "0, or cut it."
            )
        writer = self.parts().writer(
            start=start, end=end, beams=beams, length_penalty=length_penalty, max_length=max_length
        )
        return writer(source)


@dataclasses.dataclass(frozen=True)
class Parts:
    """The two halves of writing, as Functional models that share the weights of the whole.

    Attributes:
        encode: from `source` `(batch, S)` to the source's keys and values `(batch, S, C)` for all decoder blocks.
        decode_step: from `source`, those two, the last `token` `(batch, 1)`, its `position` `(batch,)` and the cache
            of `keys` and `values` `(batch, T, D)`, zeros at first, to the logits of the next token `(batch,
            vocabulary)` and the new cache.
    """

    encode: keras.Model
    decode_step: keras.Model

    def writer(self, *, max_length: int | None = None, **options: Any) -> Writer:
        """A `Writer` that computes with these models; `options` are its fields."""
        cache = [tuple(tensor.shape[1:]) for tensor in self.decode_step.inputs[-2:]]
        steps = (_compiled(self.encode), _compiled(self.decode_step))
        return Writer(*steps, cache=cache, max_length=max_length or cache[0][0], **options)


def parts(model: keras.Model) -> Parts:
    """The encoder and the decoder's step of a model that `models.build("seq2seq")` made, compressed or not.

    Raises:
        InvalidModel: another model, or one that is still prepared for training under a technique.
    """
    if hasattr(model, "preparation"):
        raise InvalidModel(
            f"`model` '{model.name}' is in training under a technique. Finish it first; to get integer parts, export "
            "those of the float model: tfbig.export(part, path, quantize='int8', calibration=...)."
        )
    try:
        blocks = Blocks(_sizes(model), model)
        return Parts(_encode(blocks, model.name), _decode_step(blocks, model.name))
    except KeyError as error:
        raise InvalidModel(
            f"`model` '{model.name}' has no layer {error}, which the encoder and decoder of build('seq2seq') are made "
            "of. Give a model from there."
        ) from error


def _sizes(model: keras.Model) -> Sizes:
    found = {layer.name: layer for layer in model.layers}
    encoder, decoder = found["encoder_distances"], found["decoder_distances"]
    return Sizes(
        vocabulary=found["next_token"].units,
        source_length=encoder.keys,
        target_length=decoder.keys,
        width=found["encoder1_self_output"].units,
        depth=sum(name.startswith("encoder") and name.endswith("_mlp1") for name in found),
        decoder_depth=sum(name.startswith("decoder") and name.endswith("_mlp1") for name in found),
        heads=encoder.heads,
        mlp=found["encoder1_mlp1"].units,
        buckets=encoder.buckets,
        max_distance=encoder.max_distance,
        dropout=0.0,
    )


def _encode(blocks: Blocks, name: str) -> keras.Model:
    source = keras.Input((blocks.sizes.source_length,), dtype="int32", name="source")
    crossing = blocks.crossing(blocks.encoded(source))
    outputs = [_joined([pair[i] for pair in crossing], f"source_{role}") for i, role in enumerate(("keys", "values"))]
    return keras.Model(source, outputs, name=f"{name}_encode")


def _decode_step(blocks: Blocks, name: str) -> keras.Model:
    sizes, numbers = blocks.sizes, range(1, blocks.sizes.decoder_depth + 1)
    widths = {
        (side, role): [blocks.layers[f"decoder{block}_{side}_{role[:-1]}"].units for block in numbers]
        for side in ("self", "cross")
        for role in ("keys", "values")
    }
    length = {"self": sizes.target_length, "cross": sizes.source_length}
    source = keras.Input((sizes.source_length,), dtype="int32", name="source")
    token, position = keras.Input((1,), dtype="int32", name="token"), keras.Input((), dtype="int32", name="position")
    caches = {
        key: keras.Input((length[key[0]], sum(each)), name=("source_" if key[0] == "cross" else "") + key[1])
        for key, each in widths.items()
    }
    split = {key: _split(caches[key], each, "_".join(key)) for key, each in widths.items()}
    written: dict[str, list[Tensor]] = {"keys": [], "values": []}

    def remember(block: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        for role, row in {"keys": keys, "values": values}.items():
            cache = split["self", role][block - 1]
            written[role].append(Written(name=f"decoder{block}_{role}_written")(cache, row, position))
        return written["keys"][-1], written["values"][-1]

    crossing = [list(pair) for pair in zip(split["cross", "keys"], split["cross", "values"], strict=True)]
    visible = (blocks.layers["target_visible"](position, one=True), blocks.layers["source_visible"](source))
    bias = blocks.distances("decoder")(position, one=True)
    logits = blocks.decoded(blocks.embedded(token, "target"), crossing, visible, bias, remember)
    logits = layers.Reshape((sizes.vocabulary,), name="logits", dtype="float32")(logits)
    outputs = [logits, *(_joined(written[role], f"{role}_written") for role in ("keys", "values"))]
    crossed = [caches["cross", role] for role in ("keys", "values")]
    own = [caches["self", role] for role in ("keys", "values")]
    return keras.Model([source, *crossed, token, position, *own], outputs, name=f"{name}_decode_step")


def _joined(tensors: list[Tensor], name: str) -> Tensor:
    return layers.Concatenate(name=name)(tensors) if len(tensors) > 1 else layers.Identity(name=name)(tensors[0])


def _split(joined: Tensor, widths: list[int], name: str) -> list[Tensor]:
    bounds = [0, *itertools.accumulate(widths)]
    return [Columns(*pair, name=f"{name}{i}")(joined) for i, pair in enumerate(itertools.pairwise(bounds), 1)]


def _compiled(model: keras.Model) -> Callable[..., list[np.ndarray]]:
    several = len(model.inputs) > 1
    call = tf.function(lambda *inputs: model(list(inputs) if several else inputs[0], training=False))
    return lambda *inputs: [np.asarray(output) for output in call(*map(tf.convert_to_tensor, inputs))]
