"""A report with everything in it, among it text that would break a page or a table if it were not escaped."""

import pytest
from report_samples import HOSTILE, measurement, operation

from tfbig.measurement.inspection import Inspection
from tfbig.report.report import Report, Row


@pytest.fixture
def rows():
    small = {"file": "out/model.tflite", "bytes": 96_488, "gzip_bytes": 32_845, "quality": 0.9121}
    fast = {"zero_fraction": 0.801, "latency_ms": 0.178, "latency_p95_ms": 0.2}
    return (
        Row("float", measurement(), 181.2),
        Row(HOSTILE, measurement(quality=0.9208, gzip_bytes=79_049), 93.0),
        Row("prune 80 % + int8", measurement(**small, **fast), 88.0),
    )


@pytest.fixture
def report(rows):
    none = {"weight_bytes": 0, "weight_dtype": None, "weight_bits": None, "weights": 0, "zero_fraction": None}
    absent = {**none, "distinct": None, "distinct_per_channel": None}
    softmax = operation(1, "SOFTMAX", arithmetic="float", reason=f"because of {HOSTILE}", **absent)
    ops = (operation(0, "CONV_2D", milliseconds=0.0123), softmax)
    inspection = Inspection("model.tflite", 96_488, "int8", True, ops, {"int8": 640, "int32": 64}, ())
    return Report(
        title=f"ResNet-8 {HOSTILE}",
        rows=rows,
        histories={"float": {"loss": [0.9, 0.5, float("nan"), 0.4], "val_loss": [1.0, 0.6, 0.5, 0.5]}},
        recipe={"stages": [{"prune": {"sparsity": 0.8}}], "epochs": 3, "note": HOSTILE},
        environment={"tensorflow": "2.21.0", "seed": 0, "processor": HOSTILE},
        float_ops={"old.tflite": [{"type": "NEG", "output": HOSTILE, "reason": "no kernel"}]},
        notes=(f"Careful: {HOSTILE}",),
        files={"litert": "out/model.tflite"},
        inspections={"model.tflite": inspection},
        sensitivity={
            "model.tflite": [
                {"layer": f"stem {HOSTILE}", "snr_db": 31.25, "share": 0.9},
                {"layer": "harmless", "snr_db": None, "share": 0.0},
            ]
        },
    )
