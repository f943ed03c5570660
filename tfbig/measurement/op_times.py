"""Milliseconds of each operation of a LiteRT file, run alone; in the interpreter's child process.

The runtime fuses neighbours and keeps data in its caches, so the parts do not add up to the whole; they say where the
time goes.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from tfbig.exporters.packing import pack, unpack
from tfbig.measurement.flatbuffer import damage_as_error, read_litert

_SECONDS, _FEWEST, _MOST = 0.02, 5, 200  # of timing for one operation, and runs


def time_operations(path: str, threads: int) -> dict[int, float]:
    """The median of each operation of the main graph that can run alone, by its index."""
    read_litert(path)  # Nothing damaged may reach a kernel.
    with damage_as_error(path):
        model = unpack(Path(path).read_bytes())
        alone = {index: _alone(model, op) for index, op in enumerate(model.subgraphs[0].operators)}
    times = {index: _median(content, threads) for index, content in alone.items()}
    return {index: found for index, found in times.items() if found is not None}


def _alone(model: Any, op: Any) -> bytes:
    """A file with one operation; what other operations give it are its inputs."""
    graph = model.subgraphs[0]
    used = list(dict.fromkeys(int(i) for i in (*op.inputs, *op.outputs) if i >= 0))
    place = {old: new for new, old in enumerate(used)}
    tensors, buffers = [], [schema.BufferT()]
    for index in used:
        tensor, data = _copy(graph.tensors[index]), model.buffers[graph.tensors[index].buffer].data
        tensor.buffer = len(buffers) if data is not None and len(data) else 0
        if tensor.buffer:
            buffers.append(model.buffers[graph.tensors[index].buffer])
        tensors.append(tensor)
    single = _copy(op)
    single.opcodeIndex = 0
    single.inputs, single.outputs = ([place.get(int(i), -1) for i in ends] for ends in (op.inputs, op.outputs))
    subgraph = schema.SubGraphT()
    subgraph.tensors, subgraph.operators = tensors, [single]
    subgraph.inputs = list(dict.fromkeys(i for i in single.inputs if i >= 0 and not tensors[i].buffer))
    subgraph.outputs = [i for i in single.outputs if i >= 0]
    file = schema.ModelT()
    file.version, file.subgraphs, file.buffers = model.version, [subgraph], buffers
    file.operatorCodes = [model.operatorCodes[op.opcodeIndex]]
    return pack(file)


def _copy(thing: Any) -> Any:
    twin = type(thing)()
    vars(twin).update(vars(thing))
    return twin


def _median(content: bytes, threads: int) -> float | None:
    """Milliseconds, or None for an operation that does not run without its graph, such as a loop."""
    try:
        interpreter = Interpreter(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
        for detail in interpreter.get_input_details():
            interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError):
        return None
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < _FEWEST or (len(times) < _MOST and time.perf_counter() < end):
        start = time.perf_counter_ns()
        interpreter.invoke()
        times.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(times))
