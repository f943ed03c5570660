"""How a model is compiled: what the user asked for, else what the model had, else what fits its outputs."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from tfbig.errors import InvalidArgument
from tfbig.training.feed import Feed
from tfbig.training.losses import fitting_loss, last_activation
from tfbig.training.optimizer import default_rate, optimizer
from tfbig.training.schedule import schedule


@dataclasses.dataclass(frozen=True)
class OptimizerOptions:
    """What `fit` was told about the optimizer; None stands for "as it is".

    Attributes:
        chosen: a name or an optimizer.
        steps: batches of the whole training, None if unknown; a schedule counts batches, too.
    """

    chosen: str | keras.optimizers.Optimizer | None = None
    learning_rate: float | None = None
    schedule: str | keras.optimizers.schedules.LearningRateSchedule | None = None
    warmup: float = 0.0
    weight_decay: float | None = None
    clip_norm: float | None = None
    ema: float | None = None
    accumulate: int = 1
    steps: int | None = None

    def given(self) -> list[str]:
        """Names of the options that change an optimizer that is there already."""
        named = ("weight_decay", "clip_norm", "ema")
        found = [name for name in named if getattr(self, name) is not None]
        return found + (["accumulate"] if self.accumulate != 1 else [])

    def rate(self, base: float) -> Any:
        """The learning rate or schedule that was asked for; `base` is the rate unless one was given."""
        base = base if self.learning_rate is None else self.learning_rate
        if isinstance(self.schedule, keras.optimizers.schedules.LearningRateSchedule):
            return self.schedule
        if self.schedule is None and not self.warmup:
            return base
        if self.steps is None:
            raise InvalidArgument(
                f"`schedule={self.schedule!r}` needs to know how long the training is, and the data does "
                "not say. "
                "Pass steps_per_epoch, or data of known size."
            )
        return schedule(self.schedule or "constant", learning_rate=base, steps=self.steps, warmup=self.warmup)

    def make(self, current: keras.optimizers.Optimizer | None) -> keras.optimizers.Optimizer:
        """The optimizer to train with.

        Args:
            current: the optimizer that the model was compiled with, if any.

        Raises:
            InvalidArgument: an unknown name, a value out of range, or options beside a ready-made optimizer.
        """
        chosen = self.chosen if self.chosen is not None else current
        if chosen is None or isinstance(chosen, str):
            name = chosen or "adam"
            options = {key: getattr(self, key) for key in ("weight_decay", "clip_norm", "ema", "accumulate")}
            optimizer(name, **options)  # Checks the name before its default rate is looked up.
            return optimizer(name, learning_rate=self.rate(default_rate(name)), **options)
        if self.given():
            raise InvalidArgument(
                f"`{self.given()[0]}` belongs to the optimizer: give it to {type(chosen).__name__}(...) "
                "itself, or "
                "name the optimizer, e.g. optimizer='adam'."
            )
        if self.learning_rate is None and self.schedule is None and not self.warmup:
            return chosen
        config = {**_inner(chosen).get_config(), "learning_rate": self.rate(_current_rate(chosen))}
        return type(_inner(chosen)).from_config(config)


@dataclasses.dataclass(frozen=True)
class Compilation:
    """Everything that `keras.Model.compile` takes."""

    optimizer: keras.optimizers.Optimizer
    loss: Any
    loss_weights: Any = None
    metrics: Any = None
    weighted_metrics: Any = None
    run_eagerly: bool = False
    steps_per_execution: int = 1
    jit_compile: bool | str = False

    def apply(self, model: keras.Model) -> None:
        """Compiles `model` with these settings."""
        settings = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        model.compile(**{**settings, "jit_compile": self.jit_compile is True})  # "auto" is for the loop to find out.

    def is_of(self, model: keras.Model) -> bool:
        """Whether `model` is compiled with exactly these settings already."""
        return (
            model.compiled
            and self.optimizer is model.optimizer
            and self.loss is model.loss
            and self.metrics is _of(model._compile_metrics, "_user_metrics")
            and self.jit_compile == model.jit_compile
        )

    def fresh(self) -> Compilation:
        """The same settings with a new optimizer and new metrics, whose variables belong to the current scope."""
        inner = _inner(self.optimizer)
        return dataclasses.replace(
            self,
            optimizer=type(inner).from_config(inner.get_config()),
            metrics=keras.tree.map_structure(_fresh_metric, self.metrics),
            weighted_metrics=keras.tree.map_structure(_fresh_metric, self.weighted_metrics),
        )


def chosen_compilation(
    model: keras.Model,
    options: OptimizerOptions,
    source: Feed,
    *,
    loss: Any,
    metrics: Any,
    smoothing: float,
    jit_compile: bool | str | None,
    loss_weights: Any = None,
    weighted_metrics: Any = None,
) -> Compilation:
    """Combines what the user asked for with what the model was compiled with and what fits its outputs."""
    was = model.compiled
    if loss is None and was and not smoothing:
        loss = model.loss
        metrics = metrics if metrics is not None else _of(model._compile_metrics, "_user_metrics")
    elif loss is None:
        loss, fitting = fitting_loss(model, source.label_spec, smoothing, source.first_labels)
        metrics = metrics if metrics is not None else fitting
    elif smoothing:
        raise InvalidArgument("`label_smoothing` applies to the loss that is chosen for you: give it to `loss` itself.")
    weights = _of(model._compile_loss, "_user_loss_weights") if was else None
    weighted = _of(model._compile_metrics, "_user_weighted_metrics") if was else None
    return Compilation(
        optimizer=options.make(getattr(model, "optimizer", None) if was else None),
        loss=loss,
        loss_weights=weights if loss_weights is None else loss_weights,
        metrics=metrics,
        weighted_metrics=weighted if weighted_metrics is None else weighted_metrics,
        run_eagerly=model.run_eagerly if was else False,
        steps_per_execution=model.steps_per_execution if was else 1,
        jit_compile=_jit(model.jit_compile if was else None, jit_compile),
    )


def _jit(compiled_with: bool | None, asked: bool | str | None) -> bool | str:
    """Off by default on a CPU, where it seldom pays, and where the same training is to give the same bits twice."""
    if asked is not None:
        return asked
    if compiled_with is not None:
        return compiled_with
    return "auto" if tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("TPU") else False


def _of(part: Any, name: str) -> Any:
    return getattr(part, name, None)


def compiled_settings(model: keras.Model) -> dict[str, Any]:
    """Loss, metrics and weights that `model` was compiled with; metrics are copies, for they hold a state."""
    if not model.compiled:
        return {}
    loss, metrics = model._compile_loss, model._compile_metrics
    found = {
        "loss": _of(loss, "_user_loss"),
        "loss_weights": _of(loss, "_user_loss_weights"),
        "metrics": keras.tree.map_structure(_fresh_metric, _of(metrics, "_user_metrics")),
        "weighted_metrics": keras.tree.map_structure(_fresh_metric, _of(metrics, "_user_weighted_metrics")),
    }
    return {name: value for name, value in found.items() if value is not None}


def takes_class_ids(model: keras.Model, loss: Any = None) -> bool:
    """Whether labels that name classes are to be ids: for `loss`, else for what `model` is compiled with."""
    loss = loss if loss is not None else compiled_settings(model).get("loss")
    if isinstance(loss, dict | list | tuple) and len(loss) == 1:
        loss = next(iter(loss.values() if isinstance(loss, dict) else loss))
    outputs = getattr(model, "outputs", None) or []
    one_number = len(outputs) == 1 and outputs[0].shape[-1] == 1
    if loss is None:
        return not one_number or last_activation(model) == "sigmoid"
    name = str(loss if isinstance(loss, str) else getattr(loss, "name", None) or getattr(loss, "__name__", ""))
    return "sparse" in name or ("binary" in name and one_number)


def _inner(made: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    return made.inner_optimizer if isinstance(made, keras.optimizers.LossScaleOptimizer) else made


def _current_rate(made: keras.optimizers.Optimizer) -> float:
    return float(keras.ops.convert_to_numpy(_inner(made).learning_rate))


def _fresh_metric(metric: Any) -> Any:
    return type(metric).from_config(metric.get_config()) if isinstance(metric, keras.metrics.Metric) else metric
