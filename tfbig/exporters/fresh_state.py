"""Stateful recurrent layers: a file begins with states of zero, and the model keeps its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import keras


@contextmanager
def fresh_state(models: Iterable[keras.Model]) -> Iterator[None]:
    """While open, the states that recurrent layers keep from call to call are zero; then they are what they were."""
    states = [state for model in models for layer in stateful_layers(model) for state in _states(layer)]
    kept = [state.numpy() for state in states]
    for state in states:
        state.assign(keras.ops.zeros_like(state))
    try:
        yield
    finally:
        for state, value in zip(states, kept, strict=True):
            state.assign(value)


def stateful_layers(model: keras.Model) -> list[keras.layers.RNN]:
    """The layers that go on, in the next call, from where the last one has left them."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.RNN) and layer.stateful]


def _states(layer: keras.layers.RNN) -> list[keras.Variable]:
    return [state for state in keras.tree.flatten(layer.states) if isinstance(state, keras.Variable)]
