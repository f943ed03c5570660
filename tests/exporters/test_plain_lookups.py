"""Categories are looked up and counted in LiteRT and ONNX as Keras does it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.measurement.subject import subject_of

RNG = np.random.default_rng(0)
IDS = RNG.integers(95, 125, (24, 1)).astype("int64")
SETS = RNG.integers(0, 12, (24, 5)).astype("int64")
NUMBERS = RNG.normal(size=(24, 1)).astype("float32")


def adapted(**options):
    layer = layers.IntegerLookup(**options)
    layer.adapt(np.arange(100, 120)[:, None])
    return layer


def embedded(layer):
    return lambda x: layers.Embedding(40, 4)(layer(x))


CASES = {
    **{f"lookup {mode}": (adapted(output_mode=mode), IDS) for mode in ("one_hot", "multi_hot", "count")},
    "lookup int": (embedded(adapted()), IDS),
    "lookup of several unknown": (adapted(num_oov_indices=3, output_mode="one_hot"), IDS),
    "lookup with a mask": (
        embedded(layers.IntegerLookup(vocabulary=list(range(100, 120)), mask_token=0)),
        np.where(IDS > 120, 0, IDS),
    ),
    "lookup without unknown": (
        layers.IntegerLookup(vocabulary=list(range(95, 125)), num_oov_indices=0, output_mode="one_hot"),
        IDS,
    ),
    **{f"sets {mode}": (layers.CategoryEncoding(12, output_mode=mode), SETS) for mode in ("multi_hot", "count")},
    "sets one_hot": (layers.CategoryEncoding(12, output_mode="one_hot"), SETS[:, :1]),
    "bins": (layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0], output_mode="one_hot"), NUMBERS),
    "bins embedded": (embedded(layers.Discretization(bin_boundaries=[-1.0, 0.0, 1.0])), NUMBERS),
}


def network(case: str) -> tuple[keras.Model, np.ndarray]:
    encoding, x = CASES[case]
    inputs = keras.Input(x.shape[1:], dtype=x.dtype.name)
    return keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten()(encoding(inputs)))), x


@pytest.mark.parametrize("case", CASES)
def test_files_count_as_keras_does(case, tmp_path):
    model, x = network(case)
    want = model.predict(x, verbose=0)
    for name in ("m.tflite", "m.onnx"):
        got = subject_of(tfbig.export(model, tmp_path / name)).predict(x)[0]
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_what_a_lookup_has_adapted_to_goes_along():
    model, x = network("lookup one_hot")
    for technique in (tfbig.Prune(sparsity=0.5), tfbig.Quantize("int8")):
        prepared = technique.prepare(model)
        twin = technique.finish(prepared)
        lookups = [[y for y in m.layers if isinstance(y, layers.IntegerLookup)][0] for m in (model, prepared, twin)]
        assert lookups[0].get_vocabulary() == lookups[1].get_vocabulary() == lookups[2].get_vocabulary()
        assert twin.predict(x, verbose=0).shape == (24, 3)
