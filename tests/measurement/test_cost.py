"""Multiply-accumulates and memory against what a person counts, and against Keras."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.compression.structure.flops import macs
from tfbig.errors import InvalidArgument
from tfbig.measurement.cost import _best_gap, arena_bytes, cost_of
from tfbig.measurement.flatbuffer import Graph, Operation, Tensor
from tfbig.measurement.phone import benchmark_commands


def tensor(index, size, data=None):
    nothing = np.zeros(0)
    return Tensor(index, str(index), "int8", (size,), (size,), nothing, nothing, 0, False, index, data)


def graph(tensors, *operations, inputs, outputs):
    ops = [
        Operation(i, kind, tuple(tensors[t] for t in ins), tuple(tensors[t] for t in outs))
        for i, (kind, ins, outs) in enumerate(operations)
    ]
    return Graph(tuple(tensors[i] for i in inputs), tuple(tensors[i] for i in outputs), tuple(ops))


def test_arena_of_a_chain_reuses_what_is_no_longer_read():
    tensors = [tensor(i, size) for i, size in enumerate((64, 640, 320, 1280, 128))]
    ops = [("RELU", [i], [i + 1]) for i in range(4)]
    # The input stays; 640 and 320 and 1280 are never all needed at once: 320 beside 1280 is the most.
    assert arena_bytes(graph(tensors, *ops, inputs=[0], outputs=[4])) == 64 + 1280 + 320
    branch = [*ops[:3], ("ADD", [3, 1], [4])]
    assert arena_bytes(graph(tensors, *branch, inputs=[0], outputs=[4])) == 64 + 1280 + 640 + 320


def test_views_take_no_memory_and_sizes_are_aligned():
    tensors = [tensor(0, 1), tensor(1, 65), tensor(2, 65), tensor(3, 1)]
    ops = [("RELU", [0], [1]), ("RESHAPE", [1], [2]), ("SUM", [2], [3])]
    assert arena_bytes(graph(tensors, *ops, inputs=[0], outputs=[3])) == 64 + 128 + 64


def test_smallest_gap_that_fits_is_taken():
    assert _best_gap([(0, 10), (30, 40), (50, 60)], 10) == 40
    assert _best_gap([(0, 10), (15, 40)], 10) == 40
    assert _best_gap([], 5) == 0


MODELS = {
    "convolution": lambda: [keras.Input((9, 8, 4)), layers.Conv2D(6, (3, 2), strides=2)],
    "groups": lambda: [keras.Input((9, 8, 4)), layers.Conv2D(6, 3, groups=2, padding="same")],
    "depthwise": lambda: [keras.Input((9, 8, 4)), layers.DepthwiseConv2D(3, depth_multiplier=2)],
    "transposed": lambda: [keras.Input((5, 5, 4)), layers.Conv2DTranspose(3, 2, strides=2)],
    "one dimension": lambda: [keras.Input((12, 4)), layers.Conv1D(6, 3)],
    "three dimensions": lambda: [keras.Input((5, 5, 5, 2)), layers.Conv3D(3, 2)],
    "dense": lambda: [keras.Input((7,)), layers.Dense(5), layers.ReLU(), layers.Dense(3)],
    "dense on many": lambda: [keras.Input((6, 7)), layers.Dense(5)],
}


@pytest.mark.parametrize("name", MODELS)
def test_products_are_those_that_keras_counts(name, tmp_path):
    model = keras.Sequential(MODELS[name]())
    assert cost_of(str(tfbig.export(model, tmp_path / "m.tflite"))).macs == macs(model)


def test_attention(tmp_path):
    x = keras.Input((6, 8))
    model = keras.Model(x, layers.MultiHeadAttention(2, 4)(x, x))
    assert cost_of(str(tfbig.export(model, tmp_path / "m.tflite"))).macs == macs(model)


def test_measured_with_the_rest(cnn, float_file, int8_file):
    plain, quantized = (tfbig.measure(file, latency=False) for file in (float_file, int8_file))
    assert plain.macs == quantized.macs == macs(cnn)
    # Input 8 * 8, then 6 * 6 * 16 and 4 * 4 * 16 at once.
    assert plain.arena_bytes == 4 * (64 + 576 + 256) and plain.arena_bytes > 3 * quantized.arena_bytes
    assert tfbig.measure(cnn).macs is None


def test_own_kernels_can_be_timed(float_file):
    times = [tfbig.measure(float_file, runs=5, xnnpack=xnnpack).latency_ms for xnnpack in (True, False)]
    assert all(time > 0 for time in times)


def test_commands_for_a_phone():
    commands = benchmark_commands("my folder/my net.tflite", threads=4)
    assert commands[0].startswith("curl -o benchmark_model https://")
    assert commands[1] == "adb push benchmark_model 'my folder/my net.tflite' /data/local/tmp/"
    import shlex

    on_phone = shlex.split(shlex.split(commands[3])[2])
    assert on_phone[:3] == [
        *("/data/local/tmp/benchmark_model", "--graph=/data/local/tmp/my net.tflite", "--num_threads=4"),
    ]
    with pytest.raises(InvalidArgument, match="`path` must be a .tflite file, which phones run, received 'm.onnx'"):
        benchmark_commands("m.onnx")
