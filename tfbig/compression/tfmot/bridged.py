"""Keras 3 models that train under TFMOT: a Keras 3 model around the tf_keras model that TFMOT wrapped."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import keras
from keras.src.models.functional import Functional

from tfbig.compression.tfmot.adoption import TfKerasLayer, adopted_layer


@keras.saving.register_keras_serializable(package="tfbig")
class Bridged(TfKerasLayer):
    """A Keras 3 model rebuilt in tf_keras and wrapped by TFMOT, as one layer.

    Args:
        original: configuration of the Keras 3 model.
        technique: name and options of the technique that it trains under.
        structure: the zeros and clusters that the weights had when they were wrapped, by layer.
        inner: the wrapped tf_keras model; without it, it is made anew from the rest, and a file brings its weights.
        custom_objects: the user's own classes that `original` names, for `finish`.
    """

    def __init__(
        self,
        original: dict[str, Any],
        technique: dict[str, Any],
        structure: dict[str, Any],
        inner: Any = None,
        custom_objects: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        from tfbig.compression.tfmot import wrapping  # It imports the techniques, which import this module.

        if inner is None:
            # A copy: Keras takes entries out of the configuration that it is given.
            model = keras.saving.deserialize_keras_object(copy.deepcopy(original))
            inner = wrapping.rewrapped(model, technique, structure)
        super().__init__(inner, untrained=wrapping.overwritten(technique, inner), **kwargs)
        # Plain attributes: Keras would track, copy and save what it finds in a dictionary.
        settings = {"original": original, "technique": technique, "structure": structure}
        for name, value in {**settings, "custom_objects": dict(custom_objects or {})}.items():
            object.__setattr__(self, name, value)

    def get_config(self) -> dict[str, Any]:
        settings = {"original": self.original, "technique": self.technique, "structure": self.structure}
        return {**super().get_config(), **settings}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Bridged:
        return cls(**config)  # Keras would otherwise make objects of the configurations inside.


def around(layer: TfKerasLayer, like: keras.Model) -> keras.Model:
    """The Keras 3 model that consists of `layer`, with inputs, outputs and names as `like` has them.

    An identity layer keeps the name of each output, by which losses and metrics may be given.
    """
    functional = functional_of(like)
    inputs = keras.tree.map_structure(_input_like, functional._inputs_struct)
    flat = keras.tree.flatten(inputs)
    results = keras.tree.flatten(layer(flat if len(flat) > 1 else flat[0]))
    names = _unique([*(x.name for x in flat), layer.name], functional.output_names)
    named = [keras.layers.Identity(name=name)(y) for name, y in zip(names, results, strict=True)]
    return keras.Model(inputs, keras.tree.pack_sequence_as(functional._outputs_struct, named), name=like.name)


def bridged_layer(model: Any) -> Bridged | None:
    """The layer that trains under TFMOT in a model that `prepare` gave, also inside another model."""
    layer = adopted_layer(model)
    return layer if isinstance(layer, Bridged) else None


def functional_of(model: keras.Model) -> Functional:
    """The graph of a Functional or Sequential model; of any other the model itself."""
    return model._functional if isinstance(model, keras.Sequential) else model


def _input_like(symbol: keras.KerasTensor) -> keras.KerasTensor:
    return keras.Input(batch_shape=tuple(symbol.shape), dtype=symbol.dtype, name=symbol.name)


def _unique(taken: list[str], names: list[str]) -> list[str]:
    chosen: list[str] = []
    for name in names:
        numbered = (f"{name}_{i}" for i in range(1, len(names) + len(taken) + 1))
        free = [n for n in (name, *numbered) if n not in taken and n not in chosen]
        chosen.append(free[0])
    return chosen
