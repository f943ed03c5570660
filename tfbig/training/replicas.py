"""A copy of a model on the devices of a strategy, whose weights come back when training ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf

from tfbig.errors import InvalidModel


@contextmanager
def placed(model: keras.Model, strategy: tf.distribute.Strategy) -> Iterator[keras.Model]:
    """Yields the model to train under `strategy`: `model` itself if it lives there, else a copy.

    However the block ends, the copy's weights are then those of `model`.

    Raises:
        InvalidModel: the model cannot be copied; it must be built inside `strategy.scope()`.
    """
    if _lives_in(model, strategy):
        yield model
        return
    copy = _copied(model, strategy)
    try:
        yield copy
    finally:
        for ours, theirs in zip(model.variables, copy.variables, strict=True):
            ours.assign(keras.ops.convert_to_numpy(theirs))


def _lives_in(model: keras.Model, strategy: tf.distribute.Strategy) -> bool:
    default = not tf.distribute.has_strategy() and strategy is tf.distribute.get_strategy()
    return model.distribute_strategy is strategy or default


def _copied(model: keras.Model, strategy: tf.distribute.Strategy) -> keras.Model:
    try:
        with strategy.scope():
            copy = keras.models.clone_model(model)
            if not copy.built:
                copy.build(model.input_shape)
    except (ValueError, TypeError, NotImplementedError, AttributeError) as error:
        raise InvalidModel(
            f"Model '{model.name}' cannot be copied to the devices of {type(strategy).__name__}: {error} "
            "Build it "
            "inside `with strategy.scope():` and pass the same strategy to fit."
        ) from error
    if [v.shape for v in copy.variables] != [v.shape for v in model.variables]:
        raise InvalidModel(
            f"Model '{model.name}' has state that a copy does not have. Build it inside `with "
            "strategy.scope():` and "
            "pass the same strategy to fit."
        )
    for ours, theirs in zip(model.variables, copy.variables, strict=True):
        theirs.assign(keras.ops.convert_to_numpy(ours))
    return copy
