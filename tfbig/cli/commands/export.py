"""`tfbig export`: a model file into another format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tfbig.cli import options
from tfbig.errors import InvalidArgument
from tfbig.files import refuse_existing

HELP = "write a model as LiteRT, ONNX, TensorRT, C array, SavedModel, .keras or .h5, quantized on request"
EXAMPLE = "tfbig export my_model.keras my_model.tflite --quantize int8 --data images:photos/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("output", metavar="OUT_FILE", help="the suffix chooses the format; none means SavedModel")
    parser.add_argument(
        "--quantize", metavar="SCHEME", help="dynamic, float16, int8, int16x8, int4, weight_only_int8, weight_only_int4"
    )
    parser.add_argument("--calibrate", metavar="METHOD", help="minmax (default), percentile, mse or kl, for integers")
    parser.add_argument(
        "--repair",
        action="append",
        metavar="NAME",
        help="equalization, rounding, reestimation, bias_correction, or all of them",
    )
    parser.add_argument(
        "--scheme", action="append", metavar="GLOB=SCHEME", help="another scheme, or float, for layers of this name"
    )
    parser.add_argument("--integer-io", action="store_true", help="integers at the inputs and outputs too")
    parser.add_argument(
        "--select-tf-ops", action="store_true", help="leave what LiteRT has no operation for to its Flex delegate"
    )
    parser.add_argument("--opset", type=int, metavar="N", help="of ONNX, 13 to 18 (default 17)")
    options.add_data(parser, required=False)
    options.add_overwrite(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    refuse_existing(arguments.output, arguments.overwrite)
    import tfbig
    from tfbig.exporters.associated_files import read_associated_files, takes_associated_files

    model = tfbig.load(arguments.model, unsafe=arguments.unsafe)
    calibration = options.load_data(arguments, model).train if arguments.data else None
    inside = read_associated_files(arguments.model) if takes_associated_files(Path(arguments.output)) else {}
    path = tfbig.export(
        model,
        arguments.output,
        quantize=_quantization(arguments),
        calibration=calibration,
        opset=arguments.opset,
        select_tf_ops=arguments.select_tf_ops,
        associated_files=inside,
        overwrite=arguments.overwrite,
    )
    if not (arguments.json or arguments.quiet):
        print(f"Wrote {path}")
    return {"file": str(path)}


def _quantization(arguments: argparse.Namespace) -> Any:
    """The scheme, with its options if any was given."""
    from tfbig.exporters.post_training import PostTraining

    if not (arguments.calibrate or arguments.repair or arguments.scheme or arguments.integer_io):
        return arguments.quantize
    schemes = dict(_pair(text) for text in arguments.scheme or ())
    return PostTraining(
        arguments.quantize or "int8",
        calibrate=arguments.calibrate or "minmax",
        repairs=arguments.repair or (),
        schemes=schemes,
        integer_io=arguments.integer_io,
    )


def _pair(text: str) -> tuple[str, str]:
    glob, sign, scheme = text.partition("=")
    if not sign:
        raise InvalidArgument(f"`--scheme` must be GLOB=SCHEME, such as 'stem*=float', received {text!r}.")
    return glob, scheme
