"""Models that train under compression: the user's own model class, its weights seen through machines.

`prepare` copies the model and gives the copy a class derived from its own (`Prepared` first), so that a custom
`train_step`, layer look-up by name and everything else the user's class does stay as they were. In each forward pass
the machines transform the weights, and the model computes with the transformed ones; the optimizer goes on training the
raw ones. This needs nothing from the layers, so it works for every layer, shared or nested or written by the user.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras.src.backend import AutocastScope

from tfbig.compression.native import clone as copying
from tfbig.compression.native.machine import Machine
from tfbig.compression.technique import Technique
from tfbig.errors import InvalidModel
from tfbig.training.kernels import sound

_SHOWN = 5  # names in a message


class NativeTechnique(Technique):
    """A technique that runs on Keras 3 itself: it makes a machine, and the machine does the work."""

    takes_away: ClassVar[bool] = False  # Whether weights lose what only training can win back.

    def machine(self, model: keras.Model) -> Machine:
        """Returns the machine that transforms the weights of `model`."""
        raise NotImplementedError(f"{type(self).__name__} must make its machine.")

    def prepare(self, model: keras.Model) -> keras.Model:
        """Returns a copy of `model` that trains under this technique, and under those it was prepared with before."""
        return prepare(self, model)

    def finish(self, model: keras.Model) -> keras.Model:
        """Returns a copy of `model` with the technique's effect written into its weights and its machine removed."""
        return finish(self, model)


@dataclasses.dataclass(frozen=True)
class Preparation:
    """How a prepared model came about: the plain model's configuration and the techniques put on it."""

    config: dict[str, Any]
    techniques: tuple[NativeTechnique, ...]


@keras.saving.register_keras_serializable(package="tfbig")
class Prepared(keras.Model):
    """Base of the classes that `prepare` makes; never instantiated by itself."""

    preparation: Preparation
    machines: list[Machine]

    def call(self, *args: Any, **kwargs: Any) -> Any:
        training = bool(kwargs.get("training", self._get_call_context().get_value("training")))
        if "training" not in self._call_signature.parameters:
            kwargs.pop("training", None)
        with WeightsSeenThrough(self.machines, training) as seen:
            for machine in self.machines:
                if machine.replaces_call:
                    # The steps cast for themselves; the model's own precision is the global one when it was made.
                    with AutocastScope(None):
                        outputs = machine.call_model(args, kwargs, training)
                    break
            else:
                outputs = super().call(*args, **kwargs)
        seen.commit(self)
        return outputs

    def training_callbacks(self) -> list[keras.callbacks.Callback]:
        """The callbacks that a training of this model needs; `fit` adds them by itself."""
        return [TrainingLength()]

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        callbacks = kwargs.pop("callbacks", None)
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.append(TrainingLength())
        else:
            given = callbacks if isinstance(callbacks, list | tuple) else [callbacks] if callbacks else []
            callbacks = [*given, TrainingLength()]
        with sound(self):
            return super().fit(*args, callbacks=callbacks, **kwargs)

    # Keras collects variables from the list of layers, and Sequential keeps one of its own, without the machines.
    @property
    def variables(self) -> list[keras.Variable]:
        return self._with_machines(super().variables)

    @property
    def weights(self) -> list[keras.Variable]:
        return self._with_machines(super().weights)

    def _with_machines(self, found: list[keras.Variable]) -> list[keras.Variable]:
        theirs = [variable for machine in getattr(self, "machines", ()) for variable in machine.variables]
        known = {id(variable) for variable in found}
        return [*found, *(variable for variable in theirs if id(variable) not in known)]

    def get_config(self) -> dict[str, Any]:
        techniques = [{"name": t.name, **t.get_config()} for t in self.preparation.techniques]
        return {"original": self.preparation.config, "techniques": techniques}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict | None = None) -> Prepared:
        from tfbig.compression import technique_from_config  # The techniques import this module.

        original = copying.deserialize(config["original"], custom_objects)
        techniques = tuple(technique_from_config(entry) for entry in config["techniques"])
        return wrap(original, Preparation(config["original"], techniques))  # type: ignore[arg-type]


class TrainingLength(keras.callbacks.Callback):
    """Tells the machines how long the training is, for schedules given as a share of it."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        steps = self.params.get("steps")
        for machine in self.model.machines:
            if steps and not int(machine.total_steps.numpy()):
                machine.total_steps.assign(steps * self.params["epochs"])


class WeightsSeenThrough:
    """While open, every read of a machine's kernel gives its transformed value."""

    def __init__(self, machines: Sequence[Machine], training: bool):
        self.machines, self.training = machines, training

    def __enter__(self) -> WeightsSeenThrough:
        seen: dict[int, tf.Tensor] = {}
        variables = {id(k.variable): k.variable for machine in self.machines for k in machine.kernels}
        with AutocastScope(None):  # Of the model, which would cast the weights, and what the scope holds of them.
            for machine in self.machines:
                weights = [
                    seen[id(k.variable)] if id(k.variable) in seen else tf.convert_to_tensor(k.variable.value)
                    for k in machine.kernels
                ]
                for kernel, weight in zip(machine.kernels, machine.transform(weights, self.training), strict=True):
                    seen[id(kernel.variable)] = weight
            mapping = [(variables[key], weight) for key, weight in seen.items()]
            self.scope = keras.StatelessScope(state_mapping=mapping, collect_losses=True)
        self.replaced = set(seen)
        self.scope.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.scope.__exit__(*error)

    def commit(self, model: keras.Model) -> None:
        """Carries out what the forward pass assigned and added inside the scope."""
        for variable in model.variables:
            value = self.scope.get_current_value(variable)
            if value is not None and id(variable) not in self.replaced:
                variable.assign(value)
        for loss in self.scope.losses:
            keras.Layer.add_loss(model, loss)  # A Functional model's own refuses, though its layers may have losses.
        for machine in self.machines:
            machine.end_step(self.training)


def prepare(technique: NativeTechnique, model: keras.Model) -> Prepared:
    """Returns a copy of `model` that trains under `technique`, and under those it was prepared with before."""
    copying.check_keras_model(model)
    copying.check_trainable(model)
    model = model if isinstance(model, Prepared) else copying.without_lora(model)
    before = model.preparation.techniques if isinstance(model, Prepared) else ()
    if is_prepared_with(technique, model):
        raise InvalidModel(
            f"`model` '{model.name}' is being trained under {type(technique).__name__} already. Finish it with "
            f"{type(technique).__name__}(...).finish(model) before preparing it again."
        )
    twin = _rebuild(model, (*before, technique))
    if technique.takes_away:
        _tell_of_frozen(twin.machines[-1], type(technique).__name__)
    return twin


def _tell_of_frozen(machine: Machine, technique: str) -> None:
    frozen = list(dict.fromkeys(k.layer.name for k in machine.kernels if not k.variable.trainable))
    if frozen:
        more = f" and {len(frozen) - _SHOWN} more" if len(frozen) > _SHOWN else ""
        warnings.warn(
            f"{technique} changes layers that are frozen (trainable=False), which cannot recover from it in training: "
            f"{', '.join(map(repr, frozen[:_SHOWN]))}{more}. Unfreeze them, or leave them alone with "
            f"layers={{{frozen[0]!r}: None}}.",
            stacklevel=4,
        )


def finish(technique: NativeTechnique, model: keras.Model) -> keras.Model:
    """Returns a copy of `model` with the technique's effect written into its weights and its machine removed."""
    twin = settled(check_prepared(technique, model), technique.name)
    return _rebuild(twin, tuple(t for t in twin.preparation.techniques if t.name != technique.name))


def settled(model: Prepared, name: str) -> Prepared:
    """Returns a copy of `model` in which the technique's transformed weights are the weights."""
    twin = _rebuild(model, model.preparation.techniques)
    machine = next(m for m in twin.machines if m.name == name)
    machine.settle()
    weights = [tf.convert_to_tensor(k.variable.value) for k in machine.kernels]
    for kernel, weight in zip(machine.kernels, machine.transform(weights, training=False), strict=True):
        kernel.variable.assign(weight)
    return twin


def is_prepared_with(technique: Technique, model: keras.Model) -> bool:
    """Whether `model` is being trained under a technique of the same name."""
    return isinstance(model, Prepared) and technique.name in [t.name for t in model.preparation.techniques]


def check_prepared(technique: Technique, model: keras.Model) -> Prepared:
    """Returns `model`; raises `InvalidModel` unless it was prepared with a technique of the same name."""
    if is_prepared_with(technique, model):
        return model
    raise InvalidModel(
        f"`model` '{getattr(model, 'name', model)}' was not prepared with {type(technique).__name__}, so it cannot "
        f"be finished. Call {type(technique).__name__}(...).prepare(model) first, and finish what it returns."
    )


def wrap(model: keras.Model, preparation: Preparation) -> Prepared:
    """Turns `model` itself into a prepared model."""
    machines = [technique.machine(model) for technique in preparation.techniques]
    model.__class__ = _prepared_class(type(model))  # type: ignore[arg-type]
    # Keras tells a model whether it is being trained only if its `call` asks for it; the machines must know.
    model._call_has_training_arg = True
    # Plain attributes: Keras would track, copy and save what it finds in a dictionary.
    object.__setattr__(model, "preparation", preparation)
    model._tracker.unlock()
    model.machines = machines
    return model


def plain_weights(model: keras.Model) -> list[keras.Variable]:
    """The weights of the model itself, without those of its machines."""
    machines = model.machines if isinstance(model, Prepared) else []
    theirs = {id(v) for machine in machines for v in machine.variables}
    return [v for v in model.weights if id(v) not in theirs]


def _rebuild(model: keras.Model, techniques: tuple[NativeTechnique, ...]) -> Any:
    config = model.preparation.config if isinstance(model, Prepared) else copying.serialize(model)
    twin = copying.deserialize(config, copying.custom_objects_of(model))
    copying.copy_weights(plain_weights(model), twin)
    copying.copy_assets((layer for layer in model._flatten_layers() if not isinstance(layer, Machine)), twin)
    if not techniques:
        return twin
    twin = wrap(twin, Preparation(config, techniques))
    for machine in model.machines if isinstance(model, Prepared) else ():
        for new in (m for m in twin.machines if m.name == machine.name):
            for source, target in zip(machine.variables, new.variables, strict=True):
                target.assign(source)
    return twin


@functools.cache
def _prepared_class(cls: type) -> type:
    if issubclass(cls, Prepared):
        return cls
    prepared = type("Prepared", (Prepared, cls), {"__module__": __name__, "__doc__": cls.__doc__})
    return keras.saving.register_keras_serializable(package="tfbig", name="Prepared")(prepared)
