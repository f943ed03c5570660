"""The JSON Schema of `report.json`, version 1.

A field is never removed and never changes its meaning within a version; fields may be added.
"""

from __future__ import annotations

from typing import Any

from tfbig.report.report import SCHEMA_VERSION


def _object(properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), **more}


def _map_of(values: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values, "description": description}


def _list_of(items: dict[str, Any], description: str = "") -> dict[str, Any]:
    return {"type": "array", "items": items, "description": description}


def _field(kind: str | list[str], description: str) -> dict[str, Any]:
    return {"type": kind, "description": description}


_STRING: dict[str, Any] = {"type": "string"}
_NUMBER = ["number", "null"]
_INTEGER = ["integer", "null"]

_MEASUREMENT = _object(
    {
        "file": _field(["string", "null"], "path of the file that was measured; null for a model in memory"),
        "quality": _field(_NUMBER, "in [0, 1] for accuracies, else in the metric's unit; of the file itself"),
        "quality_name": _field("string", "accuracy, top5_accuracy, mae, mse, rmse, or a function's name"),
        "samples": _field("integer", "test samples that the quality was measured on"),
        "bytes": _field(_INTEGER, "size of the file, or of all files of a folder"),
        "gzip_bytes": _field(_INTEGER, "size after gzip -9; of a folder's tar"),
        "parameters": _field("integer", "numbers that the model holds"),
        "zero_fraction": _field("number", "share of zeros among the weights in tensors of rank 2 and more"),
        "distinct_weights": _field("integer", "the most different values in one weight tensor"),
        "latency_ms": _field(_NUMBER, "median of one invocation, milliseconds"),
        "latency_p95_ms": _field(_NUMBER, "95th percentile of the invocations, milliseconds"),
        "threads": _field("integer", "threads of the interpreter while it was timed"),
    }
)

_MEASUREMENT["properties"].update(  # Not required: reports from before they were measured are still reports.
    macs=_field(_INTEGER, "multiply-accumulates of one invocation"),
    arena_bytes=_field(_INTEGER, "memory that LiteRT's planner lays activations out in"),
    weights=_field(_INTEGER, "parameters in tensors of rank 2 and more"),
)

_OP = _object(
    {
        "index": _field("integer", "position in its subgraph"),
        "subgraph": _field("integer", "0 is the main graph"),
        "type": _field("string", "LiteRT's name of the operation"),
        "output": _field("string", "name of its first output tensor"),
        "input_dtypes": _list_of(_STRING),
        "output_dtypes": _list_of(_STRING),
        "arithmetic": {"enum": ["integer", "hybrid", "float", "conversion", "index"]},
        "weight_bytes": _field("integer", "stored bytes of its constants, biases included"),
        "weight_dtype": _field(["string", "null"], "type that its weights are stored as"),
        "weight_bits": _field(_INTEGER, "bits of one weight"),
        "weights": _field("integer", "how many weights, in constants of rank 2 and more"),
        "zero_fraction": _field(_NUMBER, "share of zeros among them"),
        "distinct": _field(_INTEGER, "different values in one weight tensor"),
        "distinct_per_channel": _field(_INTEGER, "the most different values in one output channel"),
        "reason": _field(["string", "null"], "why it stayed float in a quantized file"),
    }
)

_OP["properties"]["milliseconds"] = _field(_NUMBER, "median of the operation run alone; null where it was not timed")

_INSPECTION = _object(
    {
        "file": _STRING,
        "bytes": {"type": "integer"},
        "scheme": _field("string", "number formats, e.g. int8"),
        "quantized": {"type": "boolean"},
        "ops": _list_of(_OP),
        "bytes_by_dtype": _map_of({"type": "integer"}, "stored bytes of the constants by type"),
        "notes": _list_of(_STRING),
    }
)

_FLOAT_OP = _object({"type": _STRING, "output": _STRING, "reason": _STRING})
_CURVE = _list_of({"type": _NUMBER}, "one value per epoch")

SCHEMA: dict[str, Any] = _object(
    {
        "schema_version": {"const": SCHEMA_VERSION},
        "tfbig": _field("string", "version that wrote the report"),
        "verdict": _field("string", "one sentence, computed from the rows"),
        "title": _STRING,
        "rows": _list_of(
            _object(
                {
                    "stage": _STRING,
                    "measurement": _MEASUREMENT,
                    "seconds": _field("number", "how long the stage took"),
                }
            ),
            "one per stage; the first is the one that the others are compared with",
        ),
        "histories": _map_of(_map_of(_CURVE, "by metric"), "training curves by stage"),
        "recipe": _field(["object", "null"], "what `tfbig.Recipe` reads"),
        "environment": _field("object", "versions, processor, seed"),
        "float_ops": _map_of(_list_of(_FLOAT_OP), "operations that stayed float, by file"),
        "notes": _list_of(_STRING),
        "files": _map_of(_STRING, "what was written, by kind"),
        "inspections": _map_of(_INSPECTION, "what is inside each LiteRT file"),
    },
    **{"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "tfbig report"},
)
_SENSITIVITY = _object(
    {
        "layer": _STRING,
        "snr_db": _field(_NUMBER, "of the outputs with this layer alone quantized; null where that changes nothing"),
        "share": _field("number", "of the noise of all layers, each alone, in [0, 1]"),
    }
)
SCHEMA["properties"]["sensitivity"] = _map_of(_list_of(_SENSITIVITY), "from `tfbig debug`, by file, the worst first")
