"""Deep Q-network."""

from __future__ import annotations

from collections.abc import Sequence

import keras
from keras import layers

from tfbig.errors import InvalidArgument, check_count
from tfbig.models.arguments import check_counts


def build(
    *,
    input_shape: Sequence[int] = (84, 84, 4),
    actions: int = 4,
    filters: Sequence[int] = (32, 64, 64),
    kernels: Sequence[int] = (8, 4, 3),
    strides: Sequence[int] = (4, 2, 1),
    units: Sequence[int] = (512,),
    dueling: bool = False,
    name: str = "q_network",
) -> keras.Model:
    """A Q-network: the value of each action in a state. The defaults are the network for Atari games.

    Args:
        input_shape: `(height, width, frames)` for images, which pass the convolutions, or `(features,)`, which do
            not.
        actions: number of actions, >= 1.
        filters: filters of each convolution.
        kernels: kernel side of each convolution; as many as `filters`.
        strides: stride of each convolution; as many as `filters`.
        units: width of each hidden layer.
        dueling: computes the value of the state and the advantage of each action apart, and adds them.

    Returns:
        A Functional model from `(batch, *input_shape)` to values `(batch, actions)`, in float32 and without bounds.

    Raises:
        InvalidArgument: a value out of range.

    References:
        Mnih et al., "Human-level control through deep reinforcement learning", Nature 518, 2015.
        Wang et al., "Dueling Network Architectures for Deep Reinforcement Learning", ICML 2016, equation 9.
    """
    _check(input_shape, actions, filters, kernels, strides, units)
    inputs = x = keras.Input(tuple(input_shape), name="state")
    if len(input_shape) == 3:
        for index, (count, kernel, stride) in enumerate(zip(filters, kernels, strides, strict=True), start=1):
            x = layers.Conv2D(count, kernel, strides=stride, padding="same", activation="relu", name=f"conv{index}")(x)
        x = layers.Flatten(name="flatten")(x)
    for index, width in enumerate(units, start=1):
        x = layers.Dense(width, activation="relu", name=f"hidden{index}")(x)
    values = layers.Dense(actions, dtype="float32", name="advantages" if dueling else "action_values")(x)
    if dueling:
        values = _dueling(values, layers.Dense(1, dtype="float32", name="state_value")(x), actions)
    return keras.Model(inputs, values, name=name)


def _dueling(advantages: keras.KerasTensor, value: keras.KerasTensor, actions: int) -> keras.KerasTensor:
    """`Q = V + (A - mean(A))`, in layers that every technique and exporter knows."""
    column = layers.Reshape((actions, 1), dtype="float32", name="advantage_column")(advantages)
    mean = layers.GlobalAveragePooling1D(dtype="float32", name="mean_advantage")(column)
    centred = layers.Subtract(dtype="float32", name="centred_advantages")([advantages, mean])
    return layers.Add(dtype="float32", name="action_values")([centred, value])


def _check(
    input_shape: Sequence[int],
    actions: int,
    filters: Sequence[int],
    kernels: Sequence[int],
    strides: Sequence[int],
    units: Sequence[int],
) -> None:
    check_counts("input_shape", input_shape)
    if len(input_shape) not in (1, 3):
        raise InvalidArgument(
            f"`input_shape` must be (height, width, frames) or (features,), received {tuple(input_shape)}."
        )
    check_count("actions", actions)
    check_counts("filters", filters)
    check_counts("kernels", kernels, length=len(filters))
    check_counts("strides", strides, length=len(filters))
    check_counts("units", units)
