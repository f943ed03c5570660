"""Model parallelism: layers of one model on different devices."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tfbig.errors import InvalidArgument, nearest
from tfbig.training.parts import Runner, apart, check_functional, run_by


@contextmanager
def spread(model: keras.Model, placement: Mapping[str, str]) -> Iterator[keras.Model]:
    """Yields a copy of `model` whose layers live, compute and get their gradients on the devices of `placement`.

    However the block ends, the copy's weights are then those of `model`.

    Args:
        placement: a device, such as "GPU:1", for each pattern of layer names, such as "block3_*". The first pattern
            that fits counts; layers that none fits stay where TensorFlow puts them.

    Raises:
        InvalidArgument: a device that is not there, or a pattern that fits no layer.
        InvalidModel: `model` is not Functional.
    """
    check_functional(model, "placement")
    devices = _devices_by_layer(model, placement)

    def called(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        with tf.device(devices.get(layer.name)):
            return layer(*args, **kwargs)

    copy = keras.models.clone_model(model, call_function=called)
    copy.set_weights(model.get_weights())
    try:
        with run_by(copy, lambda whole: _runner(whole, devices)):
            yield copy
    finally:
        for ours, theirs in zip(model.variables, copy.variables, strict=True):
            ours.assign(keras.ops.convert_to_numpy(theirs))


def beside(optimizer: keras.optimizers.Optimizer) -> None:
    """Makes an optimizer that is not built yet keep what it has of each variable on that variable's device."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    add = optimizer.add_variable_from_reference

    def add_beside(reference_variable: keras.Variable, *args: Any, **kwargs: Any) -> keras.Variable:
        with tf.device(reference_variable.value.device):
            return add(reference_variable, *args, **kwargs)

    optimizer.__dict__["add_variable_from_reference"] = add_beside


def _runner(whole: Runner, devices: dict[str, str]) -> Runner:
    def run(inputs: Any, operation_fn: Callable) -> Any:
        return whole(inputs, lambda op: _on_device(op, operation_fn(op), devices.get(op.name)))

    return run


def _on_device(layer: Any, call: Callable, device: str | None) -> Callable:
    if device is None:
        return call

    def placed(*args: Any, **kwargs: Any) -> Any:
        flat = keras.tree.flatten((args, kwargs))
        tensors = [i for i, x in enumerate(flat) if tf.is_tensor(x)]
        structure: list[Any] = []

        def run(inputs: list) -> list:
            filled = list(flat)
            for index, value in zip(tensors, inputs, strict=True):
                filled[index] = value
            again, named = keras.tree.pack_sequence_as((args, kwargs), filled)
            outputs = call(*again, **named)
            structure.append(outputs)
            return keras.tree.flatten(outputs)

        found = apart(run, [flat[i] for i in tensors], [layer], lambda pure: _forth_and_back(pure, device))
        return keras.tree.pack_sequence_as(structure[0], found)

    return placed


def _forth_and_back(pure: Callable, device: str) -> Callable:
    """`pure` and its gradient on one device; without this, TensorFlow computes all gradients on the first one."""

    @tf.custom_gradient
    def run(*values: tf.Tensor) -> tuple:
        with tf.device(device), tf.GradientTape() as tape:
            tape.watch(values)
            outputs = pure(*values)

        def gradient(*upstream: tf.Tensor) -> list:
            with tf.device(device):
                return tape.gradient(outputs, values, upstream, unconnected_gradients=tf.UnconnectedGradients.ZERO)

        return outputs, gradient

    return run


def _devices_by_layer(model: keras.Model, placement: Mapping[str, str]) -> dict[str, str]:
    if not isinstance(placement, Mapping) or not placement:
        raise InvalidArgument(f"`placement` must be like {{'block3_*': 'GPU:1'}}, received {placement!r}.")
    names = [layer.name for layer in model.layers]
    known = {device.name.removeprefix("/device:"): device.name for device in tf.config.list_logical_devices()}
    for pattern, device in placement.items():
        if device not in known:
            raise InvalidArgument(
                f"`placement['{pattern}']` must be a device of this machine, received {device!r}. There are: "
                f"{', '.join(known)}.{nearest(device, known)}"
            )
        if not fnmatch.filter(names, pattern):
            raise InvalidArgument(f"`placement`: no layer is named like {pattern!r}.{nearest(pattern, names)}")
    fitting = {name: [p for p in placement if fnmatch.fnmatchcase(name, p)] for name in names}
    return {name: known[placement[patterns[0]]] for name, patterns in fitting.items() if patterns}
