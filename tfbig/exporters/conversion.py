"""The converter, as it runs in the child process. Arguments and results are plain: paths, numbers, arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfbig.errors import ConversionFailed
from tfbig.exporters.packing import unpack

_FLEX = "Flex"
_TYPES = {"f16": "float16", "bf16": "bfloat16", "f64": "float64"}  # that LiteRT computes nothing in
Probe = dict[str, np.ndarray]


def convert(
    folder: str,
    output: str,
    *,
    quantize: dict[str, Any] | None,
    probes: Sequence[Probe],
    sparse: bool | None = False,
    names: Sequence[str] = (),
    output_ops: Mapping[str, str] | None = None,
    select_tf_ops: bool = False,
) -> dict[str, Any]:
    """Converts the model in `folder` to the LiteRT file `output`.

    Args:
        quantize: None for float; else `{"scheme": "float16" | "tfmot"}` for what TensorFlow's converter does by itself,
            or the arguments of `litert_quantization.quantize`.
        probes: single examples, each by input name.
        sparse: see `sparse_encoding.encode_sparse`.
        names: of the Keras model's outputs.
        output_ops: by output of the signature, names of the operations that compute it.
        select_tf_ops: leave operations that LiteRT has not to TensorFlow.

    Returns:
        The facts that went into the file's metadata; under "outputs" what the file computes for each of the probes
        in LiteRT's default runtime, for a file that does not load there is not delivered; and under "tf_ops" the
        operations of TensorFlow in it, with which it cannot be run here, so that there are no outputs.

    Raises:
        ConversionFailed: the model needs an operation that LiteRT has not.
    """
    content, facts = _converted(folder, quantize, sparse, output_ops, select_tf_ops)
    # The converter keeps neither the order of the inputs nor the names of the outputs.
    ends = {"inputs": list(probes[0]), "outputs": list(names)}
    if several := {end: found for end, found in ends.items() if len(found) > 1}:
        facts = {"float_ops": {}, **facts, **several}
    content = _written(output, content, facts)
    tf_ops = _tf_ops(content)
    return {**facts, "outputs": [] if tf_ops else _run(content, probes), "tf_ops": tf_ops}


def convert_together(parts: dict[str, dict[str, Any]], output: str) -> dict[str, Any]:
    """Converts several models to one LiteRT file with a signature for each; weights they share are stored once.

    Args:
        parts: by the name of the signature, the arguments of `convert` but for `output`.

    Returns:
        As `convert`, with a list of outputs for each signature.
    """
    from tfbig.exporters import signatures

    settings = ("folder", "quantize", "sparse", "output_ops", "select_tf_ops")
    converted = {name: _converted(*(part[setting] for setting in settings)) for name, part in parts.items()}
    content, renamed = signatures.join({name: content for name, (content, _) in converted.items()})
    facts: dict[str, Any] = {
        "float_ops": {},
        "inputs": {name: list(part["probes"][0]) for name, part in parts.items()},
        "outputs": {name: list(part["names"]) for name, part in parts.items()},
    }
    for name, (_, own) in converted.items():
        float_ops = {renamed[name].get(op, op): reason for op, reason in own.get("float_ops", {}).items()}
        facts = {**facts, **own, "float_ops": {**facts["float_ops"], **float_ops}}
    content = _written(output, content, facts)
    tf_ops = _tf_ops(content)
    runs = {name: [] if tf_ops else _run(content, part["probes"], name) for name, part in parts.items()}
    return {**facts, "outputs": runs, "tf_ops": tf_ops}


def _converted(
    folder: str,
    quantize: dict[str, Any] | None,
    sparse: bool | None,
    output_ops: Mapping[str, str] | None,
    select_tf_ops: bool,
) -> tuple[bytes, dict[str, Any]]:
    """The file of the model in `folder`, and the facts for its metadata."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import ConverterError

    from tfbig.exporters import litert_quantization, tensor_names
    from tfbig.exporters.sparse_encoding import encode_sparse

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    scheme = quantize["scheme"] if quantize else None
    if scheme in ("float16", "tfmot"):
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if scheme == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if select_tf_ops:
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
    try:
        content = bytes(converter.convert())
    except ConverterError as error:
        if missing := _missing(str(error)):
            raise ConversionFailed(
                f"LiteRT has no operation for {', '.join(missing)}{', and its Flex delegate neither' * select_tf_ops}. "
                + ("It computes real numbers in float32: cast to that. " if any(" of " in m for m in missing) else "")
                + "Build the model with other layers in their place or export the part of it without them, "
                + ("" if select_tf_ops else "allow TensorFlow's own with select_tf_ops=True, ")
                + "or write a SavedModel, which has all of TensorFlow."
            ) from None
        raise
    content = tensor_names.name_outputs(content, output_ops or {})
    facts: dict[str, Any] = {}
    if scheme == "tfmot":
        facts = {"quantization": "int8", "float_ops": {}}
    elif quantize and scheme != "float16":
        content, facts = litert_quantization.quantize(content, **quantize)
    content, renamed = tensor_names.shorten(encode_sparse(content, sparse=sparse))
    if facts:
        facts["float_ops"] = {renamed.get(name, name): reason for name, reason in facts["float_ops"].items()}
    return content, facts


def _written(output: str, content: bytes, facts: dict[str, Any]) -> bytes:
    from tfbig.exporters import metadata

    content = metadata.attach(content, facts) if facts else content
    Path(output).write_bytes(content)
    return content


def _tf_ops(content: bytes) -> list[str]:
    """The names of TensorFlow's operations in the file: LiteRT calls their wrappers FlexSomething."""
    codes = [code.customCode.decode() for code in unpack(content).operatorCodes if code.customCode]
    return sorted(name.removeprefix(_FLEX) for name in codes if name.startswith(_FLEX))


def _missing(message: str) -> list[str]:
    """The operations that the converter misses, each with a layer that needs it: "Erfinv (in 'head/inverse')".

    Where LiteRT has the operation for other types of numbers, it says which it lacks: "MatMul of float16".
    """
    found: dict[str, str] = {}
    types = {kind: arguments for kind, arguments in re.findall(r"tf\.(\w+)\(([^)]*)\) ->", message)}
    for line in message.splitlines():
        if kind := re.search(r"'tf\.(\w+)' op is neither a custom op nor a flex op", line):
            scope = re.search(r'"([^"]+)@', line)  # model/layer_1/op@function
            layers = [re.sub(r"_\d+$", "", part) for part in scope[1].split("/")[1:-1]] if scope else []
            other = next(
                (_TYPES[t] for t in re.findall(r"[x<]([a-z]\w*)>", types.get(kind[1], "")) if t in _TYPES), None
            )
            what = f"{kind[1]} of {other}" if other else kind[1]
            found.setdefault(kind[1], f"{what} (in '{'/'.join(layers)}')" if layers else what)
    return list(found.values())


def _run(content: bytes, probes: Sequence[Probe], signature: str | None = None) -> list[list[np.ndarray]]:
    """For each probe, the outputs in the order of the model's."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    runner = interpreter.get_signature_runner(signature)
    details, made = runner.get_input_details(), runner.get_output_details()
    names = sorted(made, key=lambda name: int(name.split("_")[1]))
    found = []
    for probe in probes:
        outputs = runner(**{name: _stored(value, details[name]) for name, value in probe.items()})
        found.append([_real(outputs[name], made[name]) for name in names])
    return found


def _stored(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    if scale and np.issubdtype(detail["dtype"], np.integer):
        limits = np.iinfo(detail["dtype"])
        value = np.clip(np.round(value / scale) + zero_point, limits.min, limits.max)
    return value.astype(detail["dtype"])


def _real(value: np.ndarray, detail: dict[str, Any]) -> np.ndarray:
    scale, zero_point = detail["quantization"]
    value = np.asarray(value, "float32")
    return (value - zero_point) * np.float32(scale) if scale else value
