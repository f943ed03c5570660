"""The machine of `Quantize`: weights and activations rounded in the forward pass as the LiteRT file will round them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfbig.compression.native.graph import Graph, Step, bind, flatten
from tfbig.compression.native.integer_steps import integer_steps, linear_steps
from tfbig.compression.native.kernels import Kernel
from tfbig.compression.native.machine import Machine, straight_through
from tfbig.compression.native.points import between_floats, float_steps, kind_of, plan
from tfbig.compression.native.poles import HIDDEN, SMALL, before_poles, with_far_masks
from tfbig.compression.native.quantized_runs import InferenceRun, TrainingRun
from tfbig.compression.native.rounding import bits_of, off_ties, round_weights
from tfbig.compression.native.tracing import Untraceable

_RECURRENT = (keras.layers.RNN, keras.layers.Bidirectional)
_PILES_UP = "the model is recurrent, and rounding errors of 8 bits would pile up from step to step"


class Quantizing(Machine):
    """Runs the model's flat graph, rounding every tensor that LiteRT will hold as an integer.

    A model with recurrent layers, or with a `call` that is no graph of Keras operations, gets its weights rounded only,
    and keeps its own `call`; `graph` is None then, and `weights_only` the reason.

    Args:
        model: the model, a copy; the machine takes the `activation=` off its layers.
        kernels: all weight tensors of the model.
        exempt: layers, by identity, whose weights and computation stay float.
        one_scale: weight tensors, by identity, all of whose channels share one scale.
        weight_bits: 8 or 4; symmetric, one scale for each output channel.
        activation_bits: 8 (asymmetric) or 16 (symmetric); one scale for each tensor.
        momentum: weight of the past in the moving average of the ranges, in [0, 1).
        freeze_after: steps, or a share of the training, after which the ranges stay as they are; None for never.
    """

    def __init__(
        self,
        model: keras.Model,
        kernels: Sequence[Kernel],
        *,
        exempt: frozenset[int],
        one_scale: frozenset[int] = frozenset(),
        weight_bits: int,
        activation_bits: int,
        momentum: float,
        freeze_after: int | float | None,
        name: str = "quantize",
    ):
        graph, reason = _flat_graph(model)
        operands = _operands(graph) if graph else set()
        chosen = [k for k in kernels if id(k.layer) not in exempt and id(k.variable) not in operands]
        super().__init__(chosen, name)
        self.weight_bits, self.activation_bits = weight_bits, activation_bits
        self.momentum, self.freeze_after = momentum, freeze_after
        self.replaces_call = graph is not None
        # Plain attributes, and no way back to the model: it owns the graph's layers, and saves them.
        object.__setattr__(self, "bind", functools.partial(bind, model))
        object.__setattr__(self, "graph", graph)
        object.__setattr__(self, "weights_only", reason)
        hidden = with_far_masks(graph) if graph else frozenset()
        object.__setattr__(self, "plan", plan(graph, hidden) if graph else None)
        small = before_poles(graph, self.plan, {id(k.variable) for k in chosen}) if graph else frozenset()
        object.__setattr__(self, "stay_float", dict.fromkeys(small, SMALL) | dict.fromkeys(hidden, HIDDEN))
        exempt |= frozenset(self.stay_float)
        object.__setattr__(self, "exempt", exempt)
        floats = float_steps(graph, self.plan, exempt) if graph else frozenset()
        object.__setattr__(self, "floats", floats)
        object.__setattr__(self, "unrounded", between_floats(graph, floats) if graph else frozenset())
        object.__setattr__(self, "one_scale", one_scale)
        integers = {id(k.variable): k for k in chosen}
        exact = graph if activation_bits == 8 else None
        object.__setattr__(
            self, "linear", linear_steps(exact, self.plan, integers, one_scale, weight_bits) if exact else {}
        )
        object.__setattr__(self, "integer", integer_steps(exact, self.plan, exempt) if exact else {})
        object.__setattr__(self, "channel_axes", {id(k.variable): k.channel_axes for k in kernels})
        rows = max(self.plan.size, 1) if graph else 1
        self.ranges = self.state("ranges", (rows, 2), "float32", aggregation="mean")

    def transform(self, weights: list[tf.Tensor], training: bool) -> list[tf.Tensor]:
        rounded = [
            round_weights(w, k, bits_of(k, self.weight_bits), one_scale=id(k.variable) in self.one_scale)
            for w, k in zip(weights, self.kernels, strict=True)
        ]
        return [straight_through(w, r) if training else r for w, r in zip(weights, rounded, strict=True)]

    def call_model(self, args: tuple, kwargs: dict[str, Any], training: bool) -> Any:
        return self.outputs(self.bind(args, kwargs), training)

    def outputs(self, values: Sequence[Any], training: bool) -> Any:
        """What the graph computes from one tensor for each of its inputs."""
        run = TrainingRun(self) if training else InferenceRun(self)
        outputs = self.graph.run(run.begin(values), run.step)
        run.finish()
        return outputs

    def tensors(self, values: Sequence[Any]) -> dict[int, Any]:
        """Every tensor of the graph at inference, by its id, rounded as the file rounds it."""
        run = InferenceRun(self)
        found: dict[int, Any] = {}

        def call(step: Step, args: tuple, kwargs: dict[str, Any]) -> Any:
            outputs = run.step(step, args, kwargs)
            found.update(zip(step.outputs, keras.tree.flatten(outputs), strict=True))
            return outputs

        self.graph.run(run.begin(values), call)
        return found

    @property
    def final_ranges(self) -> tf.Tensor:
        """The ranges `(rows, 2)` at inference and in the file: those that training has seen, off ties."""
        return off_ties(tf.convert_to_tensor(self.ranges.value))

    @property
    def calibrated(self) -> bool:
        """Whether the ranges have seen data."""
        return int(self.step.numpy()) > 0


def is_recurrent(model: keras.Model) -> bool:
    """Whether the model has layers that compute step by step."""
    return any(isinstance(layer, _RECURRENT) for layer in model._flatten_layers())


def _flat_graph(model: keras.Model) -> tuple[Graph | None, str | None]:
    if is_recurrent(model):
        return None, _PILES_UP
    try:
        return flatten(model), None
    except Untraceable as error:
        reason = f"the call of '{model.name}' ({type(model).__name__}) is no graph of Keras operations: {error}"
        warnings.warn(
            f"Only the weights of `model` are quantized, its activations stay float: {reason} For a full-integer file "
            "write the call with keras.ops and Keras layers, and without branching on values or on `training`.",
            stacklevel=2,
        )
        return None, reason


def _operands(graph: Graph) -> set[int]:
    """The variables that are added to activations or multiplied with them, element by element."""
    found: set[int] = set()
    for step in graph.steps:
        if kind_of(step) in ("arithmetic", "bias"):
            for value in keras.tree.flatten((step.arguments.args, step.arguments.kwargs)):
                variable = graph.weights.get(id(value), value)
                if isinstance(variable, keras.Variable):
                    found.add(id(variable))
    return found
