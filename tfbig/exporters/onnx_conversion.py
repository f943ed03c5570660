"""The ONNX converter, as it runs in the child process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

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
    frozen = convert_variables_to_constants_v2(signature)
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
    )
    _name_batch(model)
    return model


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


def _name_batch(model: Any) -> None:
    """Gives the open first axis of inputs and outputs a name that says what it is."""
    for end in (*model.graph.input, *model.graph.output):
        shape = end.type.tensor_type.shape
        if shape.dim and not shape.dim[0].dim_value:
            shape.dim[0].dim_param = "batch"
