"""A Keras model as a frozen TensorFlow graph in a folder, which a converter in another process can read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfbig.compression.native.inference import folded_outputs, quantizing_machine
from tfbig.errors import InvalidModel


def save_frozen(model: keras.Model, folder: Path, *, batch: int | None = 1) -> None:
    """Writes the model's inference graph, weights as constants, as a SavedModel with one signature.

    Args:
        batch: size of the first axis of every input; None leaves it open.
    """
    specs = input_specs(model, batch)

    @tf.function(autograph=False)
    def serve(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = keras.tree.flatten(inference(model, [inputs[spec.name] for spec in specs]))
        return {f"output_{i}": tf.cast(y, tf.float32) if y.dtype.is_floating else y for i, y in enumerate(outputs)}

    concrete = serve.get_concrete_function(**{spec.name: spec for spec in specs})
    frozen = convert_variables_to_constants_v2(concrete)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(tf.Module(), str(folder), signatures=frozen, options=options)


def inference(model: keras.Model, values: list[Any]) -> Any:
    """The model's outputs at inference, for one tensor per input."""
    if quantizing_machine(model) is not None:
        return folded_outputs(model, values)
    structure = getattr(model, "_inputs_struct", None)
    packed = values[0] if structure is None else keras.tree.pack_sequence_as(structure, values)
    return model(packed, training=False)


def input_specs(model: keras.Model, batch: int | None) -> list[tf.TensorSpec]:
    """Shape, dtype and name of every input; raises `InvalidModel` where Keras does not know them."""
    machine = quantizing_machine(model)
    symbols = list(machine.graph.inputs) if machine else getattr(model, "inputs", None)
    if not symbols:
        shape = (getattr(model, "_build_shapes_dict", None) or {}).get("input_shape")
        if shape is None:
            raise InvalidModel(
                f"`model` '{model.name}' has no recorded input shape, so no file can be written. Call "
                "model.build(input_shape), or make it a Functional model."
            )
        symbols = [keras.KerasTensor((None, *shape[1:]), model.input_dtype, name="input")]
    names = unique([re.sub(r"\W", "_", symbol.name.split("/")[-1]) for symbol in symbols])
    return [
        tf.TensorSpec((batch, *_known(symbol, model)), symbol.dtype, name=name)
        for symbol, name in zip(symbols, names, strict=True)
    ]


def unique(names: list[str]) -> list[str]:
    """The names, with a number behind those that occur again."""
    return [name if name not in names[:i] else f"{name}_{i}" for i, name in enumerate(names)]


def probe_inputs(model: keras.Model, *, seed: int = 0) -> list[np.ndarray]:
    """One random example for each input, within the ranges that a quantized model was trained with."""
    machine = quantizing_machine(model)
    rng = np.random.default_rng(seed)
    values = []
    for spec, symbol in zip(input_specs(model, 1), machine.graph.inputs if machine else model.inputs, strict=True):
        point = machine.plan.by_tensor.get(id(symbol)) if machine else None
        low, high = machine.ranges.numpy()[point.index] if machine and point else (0.0, 1.0)
        if spec.dtype.is_floating:
            values.append(rng.uniform(low, high, spec.shape).astype("float32"))
        else:
            values.append(rng.integers(0, _smallest_vocabulary(model), spec.shape).astype(spec.dtype.as_numpy_dtype))
    return values


def _known(symbol: Any, model: keras.Model) -> tuple[int, ...]:
    shape = tuple(symbol.shape[1:])
    if None in shape:
        raise InvalidModel(
            f"`model` '{model.name}' leaves the shape of its input '{symbol.name}' open: {(None, *shape)}. A LiteRT file "
            "needs all sizes but the batch: rebuild the model with a fixed input shape."
        )
    return shape


def _smallest_vocabulary(model: keras.Model) -> int:
    sizes = [x.input_dim for x in model._flatten_layers() if isinstance(x, keras.layers.Embedding)]
    return min([*sizes, 1000])


def reference_outputs(model: keras.Model, values: list[np.ndarray]) -> list[np.ndarray]:
    """What the exported file should compute for `values`, in the order of its outputs."""
    outputs = inference(model, [tf.convert_to_tensor(v) for v in values])
    return [np.asarray(keras.ops.convert_to_numpy(y), "float32") for y in keras.tree.flatten(outputs)]
