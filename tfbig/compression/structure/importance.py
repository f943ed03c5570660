"""How much each channel matters: norms of its filters, its normalization's scale, its effect on the loss."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.compression.structure.dependency import Dependencies
from tfbig.errors import InvalidArgument, InvalidData, InvalidModel

CRITERIA = ("l1", "l2", "batch_norm", "taylor")
OF_THE_LAYER = ("l1", "l2")  # These depend on a layer's scale, and are compared only relative to its mean.


def importance(
    dependencies: Dependencies,
    criterion: str,
    *,
    model: keras.Model | None = None,
    data: Any = None,
    loss: Any = None,
) -> np.ndarray:
    """Scores every channel: the sum over its filters (the mean over its scales), nan if it has none.

    Args:
        criterion: "l1" and "l2" are the mean absolute value and the root mean square of the filters that
            create the channel (Li et al. 2017, https://arxiv.org/abs/1608.08710); "batch_norm" is the
            absolute scale (Liu et al. 2017, https://arxiv.org/abs/1708.06519); "taylor" is the squared
            first-order change of the loss without the channel, averaged over batches (Molchanov et al. 2019,
            https://arxiv.org/abs/1906.10771, equation 8).
        model, data, loss: for "taylor"; `data` yields batches of (x, y).
    """
    if criterion == "taylor":
        weights = [producer.variable for producer in dependencies.producers]
        pieces = _taylor(dependencies, weights, model, data, loss)
    elif criterion == "batch_norm":
        pieces = _scales(dependencies)
    else:
        pieces = [(p.labels, _norms(p.variable.numpy(), p.axis, criterion)) for p in dependencies.producers]
    total, times = np.zeros((2, len(dependencies.root)))
    for labels, values in pieces:
        np.add.at(total, dependencies.root[labels], values)
        np.add.at(times, dependencies.root[labels], 1)
    scores = total / np.maximum(times, 1) if criterion == "batch_norm" else total
    return np.where(times > 0, scores, np.nan)


def _norms(weights: np.ndarray, axis: int, criterion: str) -> np.ndarray:
    rows = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).astype(np.float32)
    return np.abs(rows).mean(axis=1) if criterion == "l1" else np.sqrt(np.square(rows).mean(axis=1))


def _scales(dependencies: Dependencies) -> list[tuple[np.ndarray, np.ndarray]]:
    scales = {id(gamma): gamma for gamma in dependencies.scales if (id(gamma), 0) in dependencies.axes}
    if not scales:
        raise InvalidModel(
            "`importance='batch_norm'` needs a BatchNormalization layer with a scale behind the layers "
            "to prune; the model has none. Use importance='l1'."
        )
    return [(dependencies.axes[key, 0], np.abs(gamma.numpy())) for key, gamma in scales.items()]


def _taylor(
    dependencies: Dependencies, weights: list[keras.Variable], model: keras.Model | None, data: Any, loss: Any
) -> list[tuple[np.ndarray, np.ndarray]]:
    if model is None or data is None:
        raise InvalidArgument(
            "`importance='taylor'` needs `importance_data`, batches of (x, y) to take gradients on; "
            "received None. Pass for example importance_data=data.train.take(8)."
        )
    function = _loss(model, loss)
    totals = [np.zeros(producer.variable.shape[producer.axis]) for producer in dependencies.producers]
    batches = 0
    for batch in data:
        for total, producer, gradient in zip(
            totals, dependencies.producers, _gradients(model, function, weights, batch), strict=True
        ):
            others = [axis for axis in range(gradient.ndim) if axis != producer.axis]
            total += np.square((gradient * producer.variable.numpy()).sum(axis=tuple(others)))
        batches += 1
    if not batches:
        raise InvalidData("`importance_data` must yield at least one batch of (x, y), received none.")
    return [(p.labels, total / batches) for p, total in zip(dependencies.producers, totals, strict=True)]


def _gradients(model: keras.Model, loss: Any, weights: list[keras.Variable], batch: Any) -> Iterable[np.ndarray]:
    if not isinstance(batch, tuple | list) or len(batch) < 2:
        raise InvalidData("`importance_data` must yield batches of (x, y), received a batch without labels.")
    values = [weight.value for weight in weights]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        cost = tf.reduce_mean(loss(batch[1], model(batch[0], training=False)))
    gradients = tape.gradient(cost, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return [tf.convert_to_tensor(gradient).numpy().astype(np.float32) for gradient in gradients]


def _loss(model: keras.Model, given: Any) -> Any:
    chosen = given if given is not None else getattr(model, "loss", None)
    if chosen is None:
        raise InvalidArgument(
            "`importance='taylor'` needs a loss, and the model is not compiled. Compile it, or pass `loss`, "
            "for example loss='sparse_categorical_crossentropy'."
        )
    if isinstance(chosen, dict | list) and len(chosen) == 1:
        chosen = next(iter(chosen.values() if isinstance(chosen, dict) else chosen))
    if isinstance(chosen, dict | list):
        raise InvalidArgument(
            "`importance='taylor'` takes one loss for one output; the model is compiled with several. Pass `loss`."
        )
    return keras.losses.get(chosen)
