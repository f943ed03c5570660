"""Made-up measurements and operations for the tests of reports."""

from tfbig.measurement.inspection import Op
from tfbig.measurement.measure import Measurement

HOSTILE = "a<script>alert('x')</script>&|*_`"


def measurement(**changes):
    figures = {
        **{"file": "out/float.tflite", "quality": 0.9201, "quality_name": "accuracy", "samples": 10_000},
        **{"bytes": 316_748, "gzip_bytes": 290_149, "parameters": 78_666, "zero_fraction": 0.0},
        **{"distinct_weights": 36_864, "latency_ms": 0.412, "latency_p95_ms": 0.47, "threads": 1},
    }
    return Measurement(**{**figures, **changes})


def operation(index, kind, **changes):
    figures = {
        **{"index": index, "subgraph": 0, "type": kind, "output": f"layer_{index}", "input_dtypes": ("int8",)},
        **{"output_dtypes": ("int8",), "arithmetic": "integer", "weight_bytes": 640, "weight_dtype": "int8"},
        **{"weight_bits": 8, "weights": 576, "zero_fraction": 0.8, "distinct": 90, "distinct_per_channel": 31},
        **{"reason": None},
    }
    return Op(**{**figures, **changes})
