"""Recommenders: two towers, and neural collaborative filtering."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from tfbig.errors import InvalidArgument, check_count, check_range, nearest
from tfbig.models.arguments import check_counts

KINDS = ("two_tower", "ncf")


def build(
    *,
    users: int = 10_000,
    items: int = 10_000,
    kind: str = "two_tower",
    dimensions: int = 32,
    units: Sequence[int] = (64, 32),
    dropout: float = 0.0,
    output_activation: str | None = "sigmoid",
    name: str = "recommender",
) -> keras.Model:
    """Scores pairs of a user and an item by their embeddings.

    "two_tower" sends each embedding through a multilayer perceptron of its own and takes the dot product, so that
    items can be searched by their vectors. "ncf" (NeuMF) joins a product of embeddings with a multilayer perceptron
    over a second pair of embeddings.

    Args:
        users: number of user ids, which are 0 to n - 1.
        items: number of item ids, which are 0 to n - 1.
        kind: "two_tower" or "ncf".
        dimensions: width of each embedding.
        units: width of each hidden layer; in "two_tower" the last is the width of the vectors compared. None of them,
            `()`, leaves the product of embeddings alone in "ncf": generalized matrix factorization, which is best on
            little data.
        dropout: share of hidden activations dropped in training, in [0, 1).
        output_activation: "sigmoid" for clicks, None for logits and for ratings; kept in float32.

    Returns:
        A Functional model from two inputs `user` and `item`, whole numbers `(batch,)`, to scores `(batch, 1)`.

    Raises:
        InvalidArgument: a value out of range.

    References:
        Covington, Adams, Sargin, "Deep Neural Networks for YouTube Recommendations", RecSys 2016 (two towers).
        He et al., "Neural Collaborative Filtering", WWW 2017, sections 3.2 (GMF) and 3.4 (NeuMF).
    """
    _check(users, items, kind, dimensions, units, dropout)
    user, item = (keras.Input((), dtype="int32", name=side) for side in ("user", "item"))
    sizes = {"user": users, "item": items}
    inputs = {"user": user, "item": item}
    join = _two_tower if kind == "two_tower" else _ncf
    score = join(inputs, sizes, dimensions, units, dropout)
    if kind == "ncf" or output_activation:
        score = layers.Dense(1, activation=output_activation, dtype="float32", name="score")(score)
    return keras.Model([user, item], score, name=name)


def _two_tower(
    inputs: dict[str, keras.KerasTensor],
    sizes: dict[str, int],
    dimensions: int,
    units: Sequence[int],
    dropout: float,
) -> keras.KerasTensor:
    vectors = [
        _perceptron(_embedded(inputs[side], sizes[side], dimensions, f"{side}_embedding"), units, dropout, side)
        for side in ("user", "item")
    ]
    return layers.Dot(axes=1, dtype="float32", name="similarity")(vectors)


def _ncf(
    inputs: dict[str, keras.KerasTensor],
    sizes: dict[str, int],
    dimensions: int,
    units: Sequence[int],
    dropout: float,
) -> keras.KerasTensor:
    factors = [_embedded(inputs[side], sizes[side], dimensions, f"{side}_factors") for side in ("user", "item")]
    product = layers.Multiply(name="product")(factors)
    if not units:
        return product
    features = [_embedded(inputs[side], sizes[side], dimensions, f"{side}_features") for side in ("user", "item")]
    deep = _perceptron(layers.Concatenate(name="pair")(features), units, dropout, "deep")
    return layers.Concatenate(name="joined")([product, deep])


def _embedded(ids: keras.KerasTensor, count: int, dimensions: int, name: str) -> keras.KerasTensor:
    return layers.Embedding(count, dimensions, name=name)(ids)


def _perceptron(x: keras.KerasTensor, units: Sequence[int], dropout: float, name: str) -> keras.KerasTensor:
    for index, width in enumerate(units, start=1):
        last = name != "deep" and index == len(units)  # Compared vectors may point anywhere, so no relu.
        x = layers.Dense(width, activation=None if last else "relu", name=f"{name}_hidden{index}")(x)
        if dropout and not last:
            x = layers.Dropout(dropout, name=f"{name}_dropout{index}")(x)
    return x


def _check(users: int, items: int, kind: str, dimensions: int, units: Sequence[int], dropout: float) -> None:
    for argument, value in {"users": users, "items": items, "dimensions": dimensions}.items():
        check_count(argument, value)
    if kind not in KINDS:
        raise InvalidArgument(f"`kind` must be 'two_tower' or 'ncf', received {kind!r}.{nearest(kind, KINDS)}")
    if kind != "ncf" or units not in ((), []):
        check_counts("units", units)
    check_range("dropout", dropout, 0, 1, closed="left")
