"""The ONNX converter, as it runs in the child process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfbig.errors import ConversionFailed
from tfbig.exporters import onnx_session

Inputs = Mapping[str, np.ndarray]


def convert(
    folder: str,
    output: str,
    *,
    names: Sequence[str],
    opset: int,
    quantize: Mapping[str, Any] | None,
    probe: Inputs,
) -> dict[str, Any]:
    """Converts the model in `folder` to the ONNX file `output`.

    Args:
        names: of the inputs, in the model's order.
        quantize: the arguments of `onnx_quantization.quantize`, or None for float.

    Returns:
        The facts in the file's metadata, and under "outputs" what ONNX Runtime computes for `probe`.
    """
    import onnx

    from tfbig.exporters import onnx_quantization

    model = _from_saved_model(folder, names, opset)
    facts: dict[str, Any] = {}
    if quantize is not None:
        model, facts = onnx_quantization.quantize(model, **quantize)
    onnx.helper.set_model_props(model, {"tfbig": json.dumps({"version": 1, **facts}, sort_keys=True)})
    model.producer_name = "tfbig"
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    Path(output).write_bytes(content)
    return {**facts, "outputs": onnx_session.run(content, probe)}


def _from_saved_model(folder: str, names: Sequence[str], opset: int) -> Any:
    import tensorflow as tf
    import tf2onnx
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    _let_all_be_inlined(Path(folder) / "saved_model.pb")
    loaded = tf.saved_model.load(folder)  # The function finds its weights as long as there is this.
    signature = loaded.signatures["serving_default"]
    _refuse_state(signature)
    # tf2onnx makes a Loop of a whole While, and an LSTM of one that it knows, but nothing of a While in pieces.
    frozen = convert_variables_to_constants_v2(signature, lower_control_flow=False)
    by_name = {tensor.name.split(":")[0]: tensor.name for tensor in frozen.inputs}
    # A signature's tensors are in the order of their names; the file has the order of the model.
    inputs = [by_name.get(name, by_name.get(f"serving_default_{name}", "")) for name in names]
    order = sorted(signature.structured_outputs, key=lambda name: int(name.split("_")[1]))
    flat = dict(zip(sorted(signature.structured_outputs), frozen.outputs, strict=True))
    outputs = [flat[name].name for name in order]
    renamed = {**dict(zip(inputs, names, strict=True)), **dict(zip(outputs, order, strict=True))}
    model, _ = tf2onnx.convert.from_graph_def(
        frozen.graph.as_graph_def(),
        name="model",
        input_names=inputs,
        output_names=outputs,
        opset=opset,
        tensors_to_rename=renamed,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    if missing := _missing(model.graph):
        raise ConversionFailed(
            f"ONNX has no operation for {', '.join(missing)}. Build the model with other layers in their place, or "
            "export it as LiteRT or as a SavedModel."
        )
    _name_batch(model)
    _make_sizes_whole(model)
    for end in model.graph.output:
        _declare(end.type.tensor_type.shape, signature.structured_outputs[end.name].shape)
    return model


def _erfc(context: Any, node: Any, name: str, arguments: Any) -> None:
    """The complementary error function, of the exact GELU, as 1 - erf(x); tf2onnx has only the latter."""
    dtypes, shapes = node.output_dtypes, node.output_shapes
    context.remove_node(name)
    one = context.make_const(f"{name}_one", np.ones((), "float32"))
    error = context.make_node("Erf", node.input, dtypes=dtypes, shapes=shapes)
    outputs = [one.output[0], error.output[0]]
    context.make_node("Sub", outputs, name=name, outputs=node.output, dtypes=dtypes, shapes=shapes)


def _refuse_state(signature: Any) -> None:
    """Raises `ConversionFailed` where the model changes a variable, such as the state of a random seed."""
    content = signature.graph.as_graph_def()
    nodes = [*content.node, *(node for function in content.library.function for node in function.node_def)]
    if names := [node.name for node in nodes if node.op.startswith("Assign")]:
        layers = [_layer(name) for name in names if _layer(name)]
        raise ConversionFailed(
            f"ONNX keeps nothing from call to call, and the model does{f', in {layers[0]!r}' if layers else ''}: it "
            "draws random numbers, or counts. Export the part of it without that, such as a decoder, or a SavedModel."
        )


def _layer(node: str) -> str:
    """The layer that a node of this name stands in, if any: "encoder/sampling"."""
    parts = [part for part in node.split("/")[:-1] if part != "StatefulPartitionedCall"]
    return "/".join(re.sub(r"_\d+$", "", part) for part in parts[1:])


def _missing(graph: Any) -> list[str]:
    """The operations that ONNX has not, each with the layer that needs it: "RFFT (in 'spectrogram')"."""
    import onnx

    found: dict[str, str] = {}
    for node in _nodes(graph):
        if not node.domain and not onnx.defs.has(node.op_type):
            where = f" (in '{_layer(node.name)}')" if _layer(node.name) else ""
            found.setdefault(node.op_type, f"{node.op_type}{where}")
    return list(found.values())


def _nodes(graph: Any) -> Iterator[Any]:
    """All nodes, those in the bodies of loops and branches too."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)


def _let_all_be_inlined(path: Path) -> None:
    """Takes the marks off functions that Keras wants compiled by XLA, as grouped convolutions: ONNX has no calls."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta in content.meta_graphs:
        functions = meta.graph_def.library.function
        nodes = (node for function in functions for node in function.node_def)
        for owner in (*functions, *nodes, *meta.graph_def.node):
            for mark in ("_XlaMustCompile", "_noinline"):
                owner.attr.pop(mark, None)
    path.write_bytes(content.SerializeToString())


def _make_sizes_whole(model: Any) -> None:
    """Rounds the factors of resized images up where, rounded down, they lose the last row: 17 * 1.9411764 < 33."""
    import onnx

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "Resize" and len(node.input) == 3]:
        inferred = onnx.shape_inference.infer_shapes(model).graph  # Each time: what was mended changes what is behind.
        shapes = {value.name: value.type.tensor_type.shape.dim for value in (*inferred.value_info, *inferred.input)}
        factors = constants.get(node.input[2])
        if factors is None or node.input[0] not in shapes:
            continue
        sizes = np.array([dim.dim_value for dim in shapes[node.input[0]]], "float64")
        values = onnx.numpy_helper.to_array(factors)
        wanted = np.round(sizes * values)
        mended = np.where(np.floor(sizes * values) < wanted, np.nextafter(values, np.float32(np.inf)), values)
        factors.CopyFrom(onnx.numpy_helper.from_array(mended.astype("float32"), factors.name))


def _declare(declared: Any, shape: Any) -> None:
    """Corrects the sizes behind the batch by those that TensorFlow knows: tf2onnx guesses some of a resized image."""
    for known, size in zip(list(declared.dim)[1:], list(shape)[1:], strict=False):
        if size is not None:
            known.dim_value = size


def _name_batch(model: Any) -> None:
    """Gives the open first axis of inputs and outputs a name that says what it is."""
    for end in (*model.graph.input, *model.graph.output):
        shape = end.type.tensor_type.shape
        if shape.dim and not shape.dim[0].dim_value:
            shape.dim[0].dim_param = "batch"
