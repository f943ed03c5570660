"""A Keras model's inference graph in a folder, which a converter in another process can read.

The weights lie beside the graph as variables: as constants inside it they cost many times their size in memory.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfbig.compression.native.clone import first_line
from tfbig.compression.native.graph import recorded_inputs
from tfbig.compression.native.inference import folded_outputs, integer_outputs, quantizing_machine
from tfbig.compression.native.opener import functional_of
from tfbig.compression.native.precision import in_float32
from tfbig.errors import InvalidModel
from tfbig.exporters.fresh_state import stateful_layers
from tfbig.exporters.near_masks import near_masks
from tfbig.exporters.plain_lookups import plain_lookups
from tfbig.exporters.plain_positions import plain_positions
from tfbig.exporters.planar_pooling import planar_pooling
from tfbig.exporters.standing_norms import standing_norms
from tfbig.files import full_disk_as_os_error

_EXAMPLE_SIZE, _EXAMPLE_LENGTH = 224, 128  # of images and of sequences, in a message


def save_inference_graph(
    model: keras.Model, folder: Path, *, batch: int | None = 1, integers: bool = False
) -> dict[str, str]:
    """Writes the model's inference graph as a SavedModel with one signature.

    Args:
        batch: size of the first axis of every input; None leaves it open.
        integers: the activations will be rounded to integers, by ranges that are observed.

    Returns:
        For each output of the signature the names of the operations that compute it together, joined by ";".

    Raises:
        InvalidModel: an input whose size is open, or which takes text; or samples that depend on each other.
    """
    specs = input_specs(model, batch)
    _refuse_text(model, specs)
    _refuse_dependence(model)

    @tf.function(autograph=False)
    def serve(**inputs: tf.Tensor) -> list[tf.Tensor]:
        outputs = keras.tree.flatten(inference(model, [inputs[spec.name] for spec in specs]))
        return [tf.cast(y, tf.float32) if y.dtype.is_floating else y for y in outputs]

    layers = _layers(model)
    with contextlib.ExitStack() as forms:
        plain = (planar_pooling(layers), plain_lookups(layers), plain_positions())
        for form in (*plain, standing_norms(model, layers)):
            forms.enter_context(form)
        if integers:
            forms.enter_context(near_masks(layers))
        concrete = serve.get_concrete_function(**{spec.name: spec for spec in specs})
    module = tf.Module()
    module.weights = list(concrete.variables)
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    with full_disk_as_os_error():
        tf.saved_model.save(module, str(folder), signatures=concrete, options=options)
    return {f"output_{i}": ";".join(_fused_names(y.op)) for i, y in enumerate(concrete.structured_outputs)}


def _fused_names(op: tf.Operation) -> list[str]:
    """The names of an operation and of those before it that LiteRT computes in the same one."""
    adds = op.type in ("BiasAdd", "AddV2") and op.inputs[1].op.type in ("Const", "ReadVariableOp")
    before = _fused_names(op.inputs[0].op) if adds or op.type in ("Identity", "Relu", "Relu6") else []
    return before if op.type == "Identity" else [*before, op.name]


def _layers(model: keras.Model) -> list[Any]:
    """All that computes in the model's inference graph."""
    machine = quantizing_machine(model)
    graph = machine.graph if machine else None
    return [*model._flatten_layers(), *(step.operation for step in (graph.steps if graph else ()))]


def _refuse_text(model: keras.Model, specs: list[tf.TensorSpec]) -> None:
    if texts := [spec.name for spec in specs if spec.dtype == tf.string]:
        raise InvalidModel(
            f"`model` '{model.name}' takes text at its input '{texts[0]}', and neither LiteRT nor ONNX can cut text "
            "into words or look names up. Export the part behind that layer, with whole numbers as input, and tokenize "
            "(tfbig.data.Tokenizer) or number the names beside it; or write a SavedModel, which can."
        )


def _refuse_dependence(model: keras.Model) -> None:
    """Raises `InvalidModel` if a model of fixed batches does not compute each sample alone, as the file will."""
    sizes = {symbol.shape[0] for symbol in _input_symbols(model)}
    size = sizes.pop() if len(sizes) == 1 else None
    if size in (None, 1) or stateful_layers(model):
        return
    samples = [probe_inputs(model, seed=seed) for seed in range(size)]
    try:
        alone = [_arrays(inference(model, list(map(tf.convert_to_tensor, samples[0])))) for _ in range(2)]
        together = _arrays(inference(model, [tf.concat(values, 0) for values in zip(*samples, strict=True)]))
        is_random = not all(np.array_equal(a, b) for a, b in zip(*alone, strict=True))
        same = is_random or all(_near(a, b[:1]) for a, b in zip(alone[0], together, strict=True))
        reason = "a sample alone gives another result than in a batch."
    except Exception as error:  # Whatever the model's own code raises for a batch that it was not written for.
        same, reason = False, first_line(error)
    if not same:
        raise InvalidModel(
            f"`model` '{model.name}' was built for batches of {size} and does not compute one sample by itself, as a "
            f"file for a device does: {reason} Build it with an open batch, keras.Input(shape), and let no operation "
            "go over the first axis."
        )


def _arrays(outputs: Any) -> list[np.ndarray]:
    return [np.asarray(keras.ops.convert_to_numpy(y), "float32") for y in keras.tree.flatten(outputs)]


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-3, atol=1e-3 * max(1.0, float(np.max(np.abs(b))))))


def inference(model: keras.Model, values: list[Any]) -> Any:
    """The model's outputs at inference, for one tensor per input."""
    machine = quantizing_machine(model)
    if machine is not None and machine.graph is not None:
        return folded_outputs(model, values)
    args, kwargs = call_arguments(model, values)
    with in_float32(model._flatten_layers()):
        return model(*args, **kwargs, training=False)


def call_arguments(model: keras.Model, values: list[Any]) -> tuple[tuple, dict[str, Any]]:
    """The arguments that the model is called with, from one tensor per input."""
    if getattr(model, "inputs", None):
        return (keras.tree.pack_sequence_as(functional_of(model)._inputs_struct, values),), {}
    return keras.tree.pack_sequence_as(recorded_inputs(model), values)


def input_specs(model: keras.Model, batch: int | None, open_size: int | None = None) -> list[tf.TensorSpec]:
    """Shape, dtype and name of every input.

    Args:
        batch: size of the first axis; a model with states keeps the one that these were made for.
        open_size: what stands for sizes that the model leaves open; None raises `InvalidModel` there.
    """
    symbols = _input_symbols(model)
    stateful = bool(stateful_layers(model))
    names = unique([_name(symbol) for symbol in symbols])
    return [
        tf.TensorSpec(
            (symbol.shape[0] if stateful else batch, *_known(symbol, model, open_size)), symbol.dtype, name=name
        )
        for symbol, name in zip(symbols, names, strict=True)
    ]


def _name(symbol: Any) -> str:
    """The name that the user gave to an input; Keras's own counts the inputs of the process, and is not kept."""
    name = re.sub(r"\W", "_", symbol.name.split("/")[-1])
    return "input" if re.fullmatch(r"(keras_tensor|input_layer)(_\d+)?", name) else name


def output_names(model: keras.Model) -> list[str]:
    """The names of the outputs in the order of the file's; none for a model that does not tell them."""
    structure = getattr(model, "output", None)
    return sorted(structure) if isinstance(structure, dict) else list(getattr(model, "output_names", ()))


def unique(names: list[str]) -> list[str]:
    """The names, with a number behind those that occur again."""
    return [name if name not in names[:i] else f"{name}_{i}" for i, name in enumerate(names)]


def probe_inputs(model: keras.Model, *, seed: int = 0, open_size: int | None = None) -> list[np.ndarray]:
    """One random example for each input, within the ranges that a quantized model was trained with.

    Args:
        open_size: as of `input_specs`.
    """
    machine = quantizing_machine(model)
    rng = np.random.default_rng(seed)
    values = []
    for spec, symbol in zip(input_specs(model, 1, open_size), _input_symbols(model), strict=True):
        if spec.dtype == tf.string:
            values.append(np.full(spec.shape, b"some text", object))
            continue
        point = machine.plan.by_tensor.get(id(symbol)) if machine and machine.plan else None
        if (known := _vocabulary(symbol, model)) is not None:
            value = rng.choice(known, spec.shape)
        elif not spec.dtype.is_floating or _is_index(symbol, model):
            value = rng.integers(0, _smallest_vocabulary(model), spec.shape)
        else:
            low, high = machine.ranges.numpy()[point.index] if machine and point else (0.0, 1.0)
            value = rng.uniform(low, high, spec.shape)
        values.append(value.astype(spec.dtype.as_numpy_dtype))
    return values


def _input_symbols(model: keras.Model) -> list[Any]:
    machine = quantizing_machine(model)
    if machine is not None and machine.graph is not None:
        return list(machine.graph.inputs)
    return getattr(model, "inputs", None) or keras.tree.flatten(recorded_inputs(model))


def _vocabulary(symbol: Any, model: keras.Model) -> list[int] | None:
    """The numbers that a lookup knows which reads this input."""
    lookups = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.IntegerLookup)]
    readers = [x for x in lookups if any(symbol is y for node in x._inbound_nodes for y in node.input_tensors)]
    return readers[0].get_vocabulary(include_special_tokens=False) if readers else None


def _is_index(symbol: Any, model: keras.Model) -> bool:
    """Whether real numbers of this input are rows of an embedding, which whole numbers would say better."""
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Embedding)]
    return any(symbol is x for layer in layers for node in layer._inbound_nodes for x in node.input_tensors)


def _known(symbol: Any, model: keras.Model, open_size: int | None) -> tuple[int, ...]:
    """The shape without the batch axis."""
    shape: tuple[Any, ...] = tuple(open_size if size is None else size for size in symbol.shape[1:])
    if None in shape:
        raise InvalidModel(
            f"`model` '{model.name}' leaves the shape of its input '{symbol.name}' open: {(None, *shape)}. A LiteRT "
            "or ONNX file needs all sizes but the batch. Fix them, for example with inputs = "
            f"{_fixed(model)}; model = keras.Model(inputs, model(inputs))."
        )
    return shape


def _fixed(model: keras.Model) -> str:
    """Inputs with all sizes, in Python, as an example."""
    found = []
    for symbol in _input_symbols(model):
        open_size = _EXAMPLE_SIZE if len(symbol.shape) == 4 else _EXAMPLE_LENGTH
        sizes = tuple(open_size if size is None else size for size in symbol.shape[1:])
        found.append(f"keras.Input({sizes}{'' if symbol.dtype == 'float32' else f', dtype={symbol.dtype!r}'})")
    return found[0] if len(found) == 1 else f"[{', '.join(found)}]"


def _smallest_vocabulary(model: keras.Model) -> int:
    sizes = [x.input_dim for x in model._flatten_layers() if isinstance(x, keras.layers.Embedding)]
    return min([*sizes, 1000])


def reference_outputs(model: keras.Model, values: list[np.ndarray]) -> list[np.ndarray]:
    """What the exported file should compute for `values`, in the order of its outputs."""
    tensors = [tf.convert_to_tensor(v) for v in values]
    machine = quantizing_machine(model)
    integers = machine is not None and machine.graph is not None
    return _arrays(integer_outputs(model, tensors) if integers else inference(model, tensors))
