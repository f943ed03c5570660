"""Several models in one LiteRT file: a signature for each, shared weights once."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import tfbig
from tfbig.errors import InvalidArgument
from tfbig.exporters import facts
from tfbig.measurement.flatbuffer import read_litert
from tfbig.measurement.litert import run_litert

IDS = np.random.default_rng(0).integers(0, 400, (40, 6)).astype("int32")


@pytest.fixture(scope="module")
def pair():
    """A model that sums up a text, and one that compares a text with such a sum; they share a large table."""
    keras.utils.set_random_seed(0)
    table, ids = layers.Embedding(400, 16, name="table"), keras.Input((6,), dtype="int32", name="ids")
    pooled = layers.GlobalAveragePooling1D(name="pool")(table(ids))
    reader = keras.Model({"ids": ids}, layers.Dense(8, activation="relu", name="dense")(pooled), name="reader")
    other, summary = keras.Input((6,), dtype="int32", name="ids"), keras.Input((8,), name="summary")
    seen = layers.Dense(8, name="dense")(layers.GlobalAveragePooling1D(name="pool")(table(other)))
    return {
        "read": reader,
        "compare": keras.Model({"ids": other, "summary": summary}, layers.Dot(1, name="dot")([seen, summary])),
    }


@pytest.fixture(scope="module")
def inputs(pair):
    return {"read": {"ids": IDS}, "compare": {"ids": IDS, "summary": np.asarray(pair["read"]({"ids": IDS[::-1]}))}}


def test_each_signature_computes_what_its_model_computes(pair, inputs, tmp_path):
    file = tfbig.export(pair, tmp_path / "both.tflite")
    assert read_litert(file).signatures == ("read", "compare")
    for name, model in pair.items():
        (got,) = run_litert(file, inputs[name], signature=name)
        np.testing.assert_allclose(got, np.asarray(model(inputs[name])), atol=1e-5)
        by_order = run_litert(file, list(inputs[name].values()), signature=name)
        np.testing.assert_array_equal(by_order[0], got)
    np.testing.assert_array_equal(run_litert(file, [IDS])[0], run_litert(file, [IDS], signature="read")[0])


@pytest.mark.parametrize("quantize", [None, "int8", "float16", "dynamic"])
def test_shared_weights_are_stored_once(quantize, pair, inputs, tmp_path):
    data = {name: list(given.values()) for name, given in inputs.items()} if quantize == "int8" else None
    both = tfbig.export(pair, tmp_path / "both.tflite", quantize=quantize, calibration=data)
    alone = [
        tfbig.export(model, tmp_path / f"{name}.tflite", quantize=quantize, calibration=data and data[name])
        for name, model in pair.items()
    ]
    table = 400 * 16 * {"int8": 1, "dynamic": 1, "float16": 2, None: 4}[quantize]
    assert both.stat().st_size < sum(file.stat().st_size for file in alone) - 0.9 * table
    for name, file in zip(pair, alone, strict=True):
        got, want = run_litert(both, inputs[name], signature=name), run_litert(file, inputs[name])
        np.testing.assert_array_equal(got[0], want[0])


def test_inspect_tells_the_ops_of_all_signatures(pair, inputs, tmp_path):
    data = {name: list(given.values()) for name, given in inputs.items()}
    file = tfbig.export(pair, tmp_path / "both.tflite", quantize="int8", calibration=data)
    inspection = tfbig.inspect(file)
    assert {op.subgraph for op in inspection.ops} == {0, 1} and inspection.quantized
    dense = [op for op in inspection.ops if op.type == "FULLY_CONNECTED"]
    assert [op.arithmetic for op in dense] == ["integer", "integer"]
    assert len({op.output for op in dense}) == 2  # Tools look tensors up by name.


def test_loops_find_their_bodies(pair, tmp_path):
    """The second model's loop is subgraphs 2 and 3 of the file, no longer 1 and 2."""
    steps = keras.Input((5, 4), name="steps")
    recurrent = keras.Model(steps, layers.RNN(layers.SimpleRNNCell(3), name="loop")(steps))
    models = {"read": pair["read"], "again": recurrent, "once_more": recurrent}
    file = tfbig.export(models, tmp_path / "model.tflite")
    x = np.random.default_rng(0).normal(size=(3, 5, 4)).astype("float32")
    for name in ("again", "once_more"):
        np.testing.assert_allclose(run_litert(file, [x], signature=name)[0], recurrent.predict(x, verbose=0), atol=1e-5)
    assert "WHILE" in {op.type for op in tfbig.inspect(file).ops}


def test_files_inside_and_metadata_are_kept(pair, inputs, tmp_path):
    from tfbig.exporters.associated_files import read_associated_files

    data = {name: list(given.values()) for name, given in inputs.items()}
    options = {"quantize": "int8", "calibration": data, "associated_files": {"labels.txt": "a\nb"}}
    file = tfbig.export(pair, tmp_path / "both.tflite", **options)
    assert read_associated_files(file) == {"labels.txt": "a\nb"}
    metadata = read_litert(file).metadata
    assert facts.decode(metadata["tfbig"])["quantization"] == "int8" and "min_runtime_version" in metadata


def test_what_is_wrong_is_said(pair, tmp_path):
    with pytest.raises(
        InvalidArgument, match=r"holds 2 models, but 'both.onnx' takes one. Files of .tflite take several"
    ):
        tfbig.export(pair, tmp_path / "both.onnx")
    with pytest.raises(InvalidArgument, match=r"must map names of signatures to models.*received \[\]"):
        tfbig.export({}, tmp_path / "none.tflite")
    with pytest.raises(InvalidArgument, match="`calibration` must map each signature.*read, compare, received read"):
        tfbig.export(pair, tmp_path / "both.tflite", quantize="int8", calibration={"read": IDS})
    with pytest.raises(InvalidArgument, match="`calibration` must map each signature.*received ndarray"):
        tfbig.export(pair, tmp_path / "both.tflite", quantize="int8", calibration=IDS)
    with pytest.raises(InvalidArgument, match="`quantize='int8'` needs `calibration`"):
        tfbig.export(pair, tmp_path / "both.tflite", quantize="int8")
    assert not list(tmp_path.iterdir())
    file = tfbig.export(pair, tmp_path / "both.tflite")
    with pytest.raises(InvalidArgument, match="Unknown signature of .*'compares'. Known: compare, read. Did you mean"):
        run_litert(file, [IDS], signature="compares")
