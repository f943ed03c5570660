"""Runs and times a LiteRT file in the child process; `litert.py` is its face in the user's process.

Nothing here may import TensorFlow: the child must start fast.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tfbig.errors import ConversionFailed
from tfbig.measurement.flatbuffer import read_litert
from tfbig.measurement.signature import (
    Inputs,
    arrange_inputs,
    check_shapes,
    declared,
    from_tensor,
    order_outputs,
    to_tensor,
)

_BATCH = 64  # samples per invocation: more costs memory and gains nothing on a CPU
_WARM_UP_RUNS, _WARM_UP_SECONDS = 5, 0.1
_BLOCK_SECONDS = 0.002  # a turn of the paired timing lasts at least this long


def predict(path: str, inputs: Inputs, threads: int, signature: str | None = None) -> list[np.ndarray]:
    """The outputs of a file for a batch of any size."""
    return _runner_of(path, threads, signature=signature).predict(inputs)


def output_names(path: str) -> list[str]:
    """The names of the outputs in the order of `predict`: those of the Keras model, else those of the file."""
    runner = _runner_of(path, 1)
    names = declared(runner.file, "outputs")
    if names and len(names) == len(runner.outputs):
        return names
    by_index = {index: name for name, index in runner.file.output_names.items()}
    return [str(by_index.get(detail["index"], detail["name"])) for detail in runner.outputs]


def time_file(path: str, inputs: Inputs | None, threads: int, runs: int, xnnpack: bool = True) -> list[float]:
    """Milliseconds of `runs` invocations, after a warm-up."""
    runner = _runner_of(path, threads, xnnpack)
    _warm_up(runner, inputs)
    return runner.time(runs)


def time_pair(path: str, other: str, inputs: Inputs | None, threads: int, rounds: int) -> list[tuple[float, float]]:
    """Milliseconds per invocation of both files in each round; who begins changes from round to round."""
    runners = [_runner_of(path, threads) for path in (path, other)]
    blocks = [max(1, int(_BLOCK_SECONDS * 1e3 / _warm_up(runner, inputs))) for runner in runners]
    results = []
    for turn in range(rounds):
        order = (0, 1) if turn % 2 == 0 else (1, 0)
        medians = {which: float(np.median(runners[which].time(blocks[which]))) for which in order}
        results.append((medians[0], medians[1]))
    return results


def _runner_of(path: str, threads: int, xnnpack: bool = True, signature: str | None = None) -> Runner:
    status = Path(path).stat() if Path(path).is_file() else None
    version = (status.st_ino, status.st_mtime_ns, status.st_size) if status else None
    return _load_runner(path, threads, xnnpack, signature, version)


@functools.lru_cache(maxsize=2)
def _load_runner(
    path: str, threads: int, xnnpack: bool, signature: str | None, version: tuple[int, ...] | None
) -> Runner:
    # `version` makes a file that was written anew a new key.
    return Runner(path, threads, xnnpack, signature)


def _warm_up(runner: Runner, inputs: Inputs | None) -> float:
    """Runs one sample until caches and clocks have settled; returns the last run's milliseconds."""
    runner.prepare(inputs)
    start = time.perf_counter()
    last = runner.time(_WARM_UP_RUNS)[-1]
    while time.perf_counter() - start < _WARM_UP_SECONDS:
        last = runner.time(1)[-1]
    return last


class Runner:
    """A file loaded by LiteRT's default runtime (XNNPACK), or by its kernels alone, with a fixed number of threads.

    It runs the first graph, or that of a signature.
    """

    def __init__(self, path: str, threads: int, xnnpack: bool = True, signature: str | None = None):
        self.path, self.threads, self.xnnpack, self.signature = path, threads, xnnpack, signature
        self.file = read_litert(path, signature)
        self.takes_batches: bool | None = None  # None until a batch was tried
        self._load()

    def predict(self, inputs: Inputs) -> list[np.ndarray]:
        """Runs all samples, as batches where the file gives the same outputs that way, else one by one."""
        arrays = arrange_inputs(self.file, self.inputs, inputs)
        check_shapes(self.file, self.inputs, arrays)
        try:
            if [a.shape for a in arrays] == self._own_shapes:
                return self._run(arrays)
            if self.takes_batches is None:
                self.takes_batches = self._try_a_batch([a[:2] for a in arrays])
            return self._run_in_steps(arrays, self.takes_batches)
        except RuntimeError as error:
            self._load()
            raise _refused(self.path, "run", error) from error

    def prepare(self, inputs: Inputs | None) -> None:
        """Fills the inputs with the first sample of `inputs`, or with numbers in [0, 1) and indices 0."""
        if inputs is None:
            generator = np.random.default_rng(0)
            arrays = [
                generator.random(s, np.float32) * _is_real(d)
                for s, d in zip(self._own_shapes, self.inputs, strict=True)
            ]
        else:
            arrays = arrange_inputs(self.file, self.inputs, inputs)
            check_shapes(self.file, self.inputs, arrays)
            arrays = [_resized(a[: self._own_batch], self._own_batch) for a in arrays]
        try:
            self._run(arrays)
        except RuntimeError as error:
            raise _refused(self.path, "run", error) from error

    def time(self, runs: int) -> list[float]:
        """Milliseconds of each of `runs` invocations on the prepared sample."""
        times = []
        for _ in range(runs):
            start = time.perf_counter_ns()
            self.interpreter.invoke()
            times.append((time.perf_counter_ns() - start) / 1e6)
        return times

    def _load(self) -> None:
        try:
            kernels = OpResolverType.AUTO if self.xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
            self.interpreter = Interpreter(
                model_path=self.path, num_threads=self.threads, experimental_op_resolver_type=kernels
            )
            self.interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise _refused(self.path, "load", error) from error
        self._find_ends()
        self._own_shapes = [tuple(int(size) for size in d["shape"]) for d in self.inputs]
        self._own_batch = self._own_shapes[0][0] if self._own_shapes and self._own_shapes[0] else 1
        self._shapes = self._own_shapes

    def _find_ends(self) -> None:
        """The details of inputs and outputs, in the order of a Keras model."""
        if self.signature is None:
            self.inputs, outputs = self.interpreter.get_input_details(), self.interpreter.get_output_details()
        else:
            self.named = self.interpreter.get_signature_runner(self.signature)
            order = [tensor.index for tensor in self.file.graphs[self.file.graph].inputs]
            details = {detail["index"]: detail for detail in self.named.get_input_details().values()}
            self.inputs, outputs = [details[i] for i in order], list(self.named.get_output_details().values())
        self.outputs = order_outputs(self.file, outputs)

    def _run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        if self.signature is not None:
            return self._run_signature(arrays)
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            for detail, shape in zip(self.inputs, shapes, strict=True):
                self.interpreter.resize_tensor_input(detail["index"], shape)
            self.interpreter.allocate_tensors()
            self._shapes = shapes
        for detail, array in zip(self.inputs, arrays, strict=True):
            self.interpreter.set_tensor(detail["index"], to_tensor(array, detail))
        # Recurrent kernels keep their state between invocations; samples must not see each other.
        self.interpreter.reset_all_variables()
        self.interpreter.invoke()
        return [from_tensor(self.interpreter.get_tensor(d["index"]), d) for d in self.outputs]

    def _run_signature(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        names = {index: name for name, index in self.file.input_names.items()}
        given = {names[d["index"]]: to_tensor(a, d) for d, a in zip(self.inputs, arrays, strict=True)}
        results = {self.file.output_names[name]: value for name, value in self.named(**given).items()}
        return [from_tensor(results[d["index"]], d) for d in self.outputs]

    def _run_in_steps(self, arrays: Sequence[np.ndarray], batched: bool) -> list[np.ndarray]:
        samples, step = len(arrays[0]), _BATCH if batched else self._own_batch
        parts = []
        for start in range(0, samples, step):
            size = min(step, samples - start)
            chunk = [_resized(a[start : start + size], size if batched else step) for a in arrays]
            parts.append([np.atleast_1d(output)[:size] for output in self._run(chunk)])
        return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]

    def _try_a_batch(self, pair: Sequence[np.ndarray]) -> bool:
        """Whether two samples at once give what each gives alone; a graph may mix them or refuse the size."""
        alone = self._run_in_steps(pair, batched=False)
        try:
            together = self._run(pair)
        except RuntimeError:
            self._load()
            return False
        return all(_alike(a, b) for a, b in zip(alone, together, strict=True))


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    # One quantization step is 1/255 of the range; mixing samples does far more.
    return a.shape == b.shape and np.allclose(a, b, rtol=0.0, atol=0.01 * max(1e-6, float(np.abs(a).max())))


def _resized(array: np.ndarray, size: int) -> np.ndarray:
    """The array with its last sample repeated until there are `size`."""
    return array if len(array) == size else np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _is_real(detail: dict[str, Any]) -> bool:
    return bool(np.issubdtype(detail["dtype"], np.floating) or detail["quantization"][0])


def _refused(path: str, verb: str, error: Exception) -> ConversionFailed:
    reason = " ".join(str(error).split())
    if "Flex" in reason or "Regular TensorFlow ops" in reason:
        advice = "It holds TensorFlow (flex) ops: export it without select_tf_ops, or run it with a flex delegate."
    elif "delegate" in reason:
        advice = "LiteRT's default runtime (XNNPACK) does not take it: export without sparse tensors."
    else:
        advice = f"Look inside with tfbig.inspect({path!r}), and export it again."
    return ConversionFailed(f"LiteRT could not {verb} `{path}`: {reason}. {advice}")
