"""Operations of a Functional model as pure functions, so that their gradients can be computed in another way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tfbig.errors import InvalidModel

Wrap = Callable[[Callable], Callable]
Runner = Callable[..., list]


def apart(run: Callable[[list], list], inputs: Sequence[tf.Tensor], layers: Sequence[keras.Layer], wrap: Wrap) -> list:
    """`run(inputs)`, called by `wrap` as a function of floating tensors alone: its inputs and trainable variables.

    Inside, nothing is assigned: what `run` computes twice it computes from the same state, random seeds and moving
    averages included. The new state is assigned once, afterwards.

    Args:
        run: gives a list of tensors; uses the variables of `layers` and no others.
        wrap: such as `tf.recompute_grad`: takes and gives a function from floating tensors to a tuple of them.
    """
    trainable = _unique(v for layer in layers for v in layer.trainable_variables)
    trained = {id(v) for v in trainable}
    others = [v for v in _unique(v for layer in layers for v in layer.variables) if id(v) not in trained]
    before = [tf.convert_to_tensor(v.value) for v in others]
    floating = [i for i, x in enumerate(inputs) if x.dtype.is_floating]
    calls: list[tuple[list, list]] = []

    def pure(*values: tf.Tensor) -> tuple:
        given = list(inputs)
        for index, value in zip(floating, values, strict=False):
            given[index] = value
        states = [*zip(trainable, values[len(floating) :], strict=True), *zip(others, before, strict=True)]
        with keras.StatelessScope(states, collect_losses=True) as scope:
            outputs = run(given)
        if scope.losses:
            raise InvalidModel("A layer adds a loss of its own, which is lost in recomputation and on other devices.")
        calls.append((outputs, [scope.get_current_value(v) for v in others]))
        return tuple(x for x in outputs if x.dtype.is_floating)

    found = iter(wrap(pure)(*(inputs[i] for i in floating), *(tf.convert_to_tensor(v.value) for v in trainable)))
    outputs, after = calls[0]
    for variable, old, new in zip(others, before, after, strict=True):
        if new is not None and new is not old:
            variable.assign(new)
    return [next(found) if x.dtype.is_floating else x for x in outputs]


@contextmanager
def run_by(model: keras.Model, runner: Callable[[Runner], Runner]) -> Iterator[None]:
    """Has `model` run its graph by `runner(as before)` inside the block, symbolic calls excepted."""
    whole, had = model._run_through_graph, model.__dict__.get("_run_through_graph")
    other = runner(whole)

    def run(inputs: Any, operation_fn: Callable = lambda op: op, call_fn: Callable | None = None) -> Any:
        symbolic = call_fn is not None or any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(inputs))
        return whole(inputs, operation_fn, call_fn) if symbolic else other(inputs, operation_fn)

    model.__dict__["_run_through_graph"] = run
    try:
        yield
    finally:
        del model.__dict__["_run_through_graph"]
        if had is not None:
            model.__dict__["_run_through_graph"] = had
        model.train_function = model.test_function = model.predict_function = None


def check_functional(model: keras.Model, argument: str) -> None:
    """Raises `InvalidModel` unless `model` is a graph of layers."""
    if not hasattr(model, "_run_through_graph") or hasattr(model, "preparation"):
        raise InvalidModel(
            f"`{argument}` needs a Functional model, received '{model.name}', a {type(model).__name__}. Build it with "
            "keras.Model(inputs, outputs)."
        )


def _unique(variables: Any) -> list[keras.Variable]:
    return list({id(v): v for v in variables}.values())
