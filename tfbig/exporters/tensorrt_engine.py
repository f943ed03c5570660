"""Builds a TensorRT engine, in the child process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tfbig.errors import ConversionFailed


def build(source: str, engine: str, shapes: Mapping[str, tuple[int, ...]], batches: Sequence[int]) -> None:
    """Builds `engine` from the ONNX file `source`.

    Args:
        shapes: of the inputs, by name, without the batch axis.
        batches: the smallest batch, the one to be made fastest, and the largest.

    Raises:
        ConversionFailed: TensorRT refuses the file; the message has its reasons.
    """
    import tensorrt

    builder = tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))
    parser = tensorrt.OnnxParser(network, tensorrt.Logger(tensorrt.Logger.ERROR))
    if not parser.parse(Path(source).read_bytes()):
        reasons = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
        raise ConversionFailed(f"TensorRT refuses the ONNX file: {reasons}. Export with another `opset`.")
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, *((batch, *shape) for batch in batches))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ConversionFailed(
            "TensorRT could not build the engine and gave no reason. Try trtexec with --verbose on the ONNX file."
        )
    Path(engine).write_bytes(bytes(plan))
