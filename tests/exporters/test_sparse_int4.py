"""TensorFlow's sparsifier dies of 4-bit constants: they are left as they are."""

from __future__ import annotations

import pytest

import tfbig
from tfbig.errors import ConversionFailed


def test_pruned_int4_model_exports(small_model, fresh_digits, tmp_path):
    prune = tfbig.Prune(sparsity=0.9)
    pruned = prune.finish(prune.prepare(small_model))
    options = {"quantize": "int4", "calibration": fresh_digits().train}
    path = tfbig.export(pruned, tmp_path / "a.tflite", **options)
    assert any(op.weight_bits == 4 for op in tfbig.inspect(path).ops)
    with pytest.raises(ConversionFailed, match="cannot store 4-bit weights sparsely. Leave `sparse` out"):
        tfbig.export(pruned, tmp_path / "b.tflite", sparse=True, **options)
