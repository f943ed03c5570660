"""Tables of embeddings in 8 and 4 bits."""

from __future__ import annotations

import numpy as np
import pytest

import tfbig
from tfbig.measurement.litert import run_litert

BITS = {"dynamic": 8, "weight_only_int8": 8, "weight_only_int4": 4}


@pytest.fixture(scope="module")
def model():
    import keras

    keras.utils.set_random_seed(0)
    return tfbig.models.build("recommender", users=300, items=400, dimensions=16, units=(8,), output_activation=None)


@pytest.mark.parametrize("scheme", BITS)
def test_tables_are_looked_up_in_few_bits(scheme, model, tmp_path):
    file = tfbig.export(model, tmp_path / "model.tflite", quantize=scheme)
    lookups = [op for op in tfbig.inspect(file).ops if op.type == "EMBEDDING_LOOKUP"]
    assert [op.weight_bits for op in lookups] == [BITS[scheme]] * 2
    assert sum(op.weight_bytes for op in lookups) == 700 * 16 * BITS[scheme] // 8
    assert "GATHER" not in {op.type for op in tfbig.inspect(file).ops}


@pytest.mark.parametrize("scheme", BITS)
def test_rows_are_rounded_by_their_own_scale(scheme, model, tmp_path):
    """A NumPy reference: tables rounded to the nearest of 2 ** bits - 1 levels in each row, the rest as it is."""
    levels = 2 ** (BITS[scheme] - 1) - 1
    rounded = model.__class__.from_config(model.get_config())
    rounded.set_weights(model.get_weights())
    for side in ("user", "item"):
        (table,) = model.get_layer(f"{side}_embedding").get_weights()
        scale = np.abs(table).max(1, keepdims=True) / levels
        rounded.get_layer(f"{side}_embedding").set_weights([np.round(table / scale) * scale])
    file = tfbig.export(model, tmp_path / "model.tflite", quantize=scheme)
    rng = np.random.default_rng(0)
    pairs = {"user": rng.integers(0, 300, 200).astype("int32"), "item": rng.integers(0, 400, 200).astype("int32")}
    (got,), want = run_litert(file, pairs), np.asarray(rounded(list(pairs.values())))
    dense = 0.2 if scheme == "weight_only_int4" else 0.03  # The towers are rounded too.
    assert np.linalg.norm(got - want) < dense * np.linalg.norm(want)


def test_other_gathers_stay(tmp_path):
    """Tokens `(batch, length)` are not rows of one axis; the file is right all the same."""
    import keras

    ids = keras.Input((5,), dtype="int32")
    text = keras.Model(ids, keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(50, 8)(ids)))
    file = tfbig.export(text, tmp_path / "text.tflite", quantize="weight_only_int4")
    tokens = np.random.default_rng(0).integers(0, 50, (6, 5)).astype("int32")
    np.testing.assert_allclose(run_litert(file, [tokens])[0], text.predict(tokens, verbose=0), atol=1e-5)
