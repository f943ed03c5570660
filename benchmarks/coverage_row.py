"""One row of the coverage table: one technique on one model, all the way to a LiteRT file. Runs in a child process."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from benchmarks.parity import Parity, parity
from benchmarks.zoo import ENTRIES, example_inputs, example_targets, pack, randomise
from tfbig.compression import technique_from_config
from tfbig.compression.native.kernels import Kernel, compressible_kernels
from tfbig.compression.technique import Technique
from tfbig.exporters.export import export
from tfbig.measurement.inspect import Inspection, inspect

OPTIONS: dict[str, dict[str, Any]] = {
    "prune": {"sparsity": 0.8, "begin": 0, "end": 0},
    "cluster": {"clusters": 16},
    "quantize": {"dtype": "int8"},
}
_SAMPLES = 64
_COMPUTE = {
    *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "BATCH_MATMUL", "ADD", "SUB", "MUL"),
    *("MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "CONCATENATION", "SOFTMAX", "LOGISTIC"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """What came of one technique on one model."""

    model: str
    technique: str
    prepare_seconds: float
    parameters: int
    file_bytes: int
    sparsity_error: int | None  # the tensor farthest from the asked number of zeros, in elements
    sparsity_in_file: float | None  # the share of zeros in the file's pruned weights
    distinct: int | None  # the most that one clustered tensor has
    distinct_in_file: int | None  # the same, in one output channel of the file
    float_ops: dict[str, int]  # float operations of a quantized file, by type
    float_compute: dict[str, int]  # those of them that a full-integer file must not have
    reasons: dict[str, int]
    parity: Parity


def measure(model_name: str, technique_name: str, steps: int) -> Row:
    """Prepares, trains, saves, loads, finishes, exports and measures; whatever fails, raises."""
    entry = ENTRIES[model_name]
    keras.utils.set_random_seed(0)
    model = entry.build()
    inputs = example_inputs(model, entry.span, _SAMPLES)
    randomise(model, inputs)
    technique = technique_from_config({"name": technique_name, **OPTIONS[technique_name]})
    start = time.perf_counter()
    prepared = technique.prepare(model)
    seconds = time.perf_counter() - start
    del model  # The largest models leave no memory for what is not needed any more.
    _train(prepared, inputs, steps)
    with tempfile.TemporaryDirectory() as folder:
        loaded = _saved_and_loaded(prepared, Path(folder) / "prepared.keras")
        del prepared
        finished = technique.finish(loaded)
        del loaded
        path = export(finished, Path(folder) / "model.tflite")
        return _row(entry.name, technique, seconds, finished, path, inputs)


def _train(model: keras.Model, inputs: list[np.ndarray], steps: int) -> None:
    targets = example_targets(model, inputs)
    outputs = len(targets)
    model.compile(keras.optimizers.SGD(1e-3), loss=["mse"] * outputs if outputs > 1 else "mse", jit_compile=False)
    model.fit(pack(model, inputs), targets if outputs > 1 else targets[0], batch_size=_SAMPLES, epochs=steps, verbose=0)


def _saved_and_loaded(model: keras.Model, path: Path) -> keras.Model:
    model.save(path)
    loaded = keras.models.load_model(path)
    for before, after in zip(model.weights, loaded.weights, strict=True):
        if not np.array_equal(before.numpy(), after.numpy()):
            raise ValueError(f"{before.path} changed on the way through the file")
    return loaded


def _row(
    name: str, technique: Technique, seconds: float, finished: keras.Model, path: Path, inputs: list[np.ndarray]
) -> Row:
    inside = inspect(path)
    floats = Counter(op.type for op in inside.float_ops)
    kernels = compressible_kernels(finished)
    pruned, clustered = technique.name == "prune", technique.name == "cluster"
    return Row(
        model=name,
        technique=technique.name,
        prepare_seconds=seconds,
        parameters=finished.count_params(),
        file_bytes=path.stat().st_size,
        sparsity_error=max(_missing_zeros(k, technique.sparsity) for k in kernels) if pruned else None,
        sparsity_in_file=_sparsity_in_file(inside, kernels) if pruned else None,
        distinct=max(len(np.unique(k.variable.numpy())) for k in kernels) if clustered else None,
        distinct_in_file=max(op.distinct_per_channel or 0 for op in inside.ops) if clustered else None,
        float_ops=dict(floats),
        float_compute={kind: count for kind, count in floats.items() if kind in _COMPUTE},
        reasons=dict(Counter(op.reason for op in inside.float_ops if op.type in _COMPUTE)),
        parity=parity(finished, path, inputs),
    )


def _missing_zeros(kernel: Kernel, sparsity: float) -> int:
    zeros = int(np.sum(kernel.variable.numpy() == 0))
    return abs(round(kernel.size * sparsity) - zeros)


def _sparsity_in_file(inside: Inspection, kernels: Sequence[Kernel]) -> float:
    """The share of zeros in what was pruned; a weight that the file holds twice counts twice."""
    with_zeros = [op for op in inside.ops if op.zero_fraction]
    zeros = sum(op.weights * (op.zero_fraction or 0.0) for op in with_zeros)
    return zeros / max(sum(kernel.size for kernel in kernels), sum(op.weights for op in with_zeros))
