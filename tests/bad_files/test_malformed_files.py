"""200 malformed files of four formats: each gets an answer in our words, in time, in memory, and in its place."""

from __future__ import annotations

import os
import resource
import signal
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from malformed import malformed, path_tricks

import tfbig
from tfbig.errors import InvalidFile, TfbigError

_PER_FORMAT = 50
_SECONDS = 120  # for one file; the machine may be busy
_GIB = 2**20  # of ru_maxrss, which counts KiB


@pytest.fixture(scope="module")
def wholes(tmp_path_factory) -> dict[str, list[Path]]:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1), name="image")
    x = layers.Flatten()(layers.Conv2D(3, 3, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(4, activation="softmax")(x), name="net")
    images = np.random.default_rng(0).random((16, 6, 6, 1), np.float32)
    folder = tmp_path_factory.mktemp("wholes")
    int8 = {"quantize": "int8", "calibration": images}
    exports = {
        ".tflite": [("float", {}), ("int8", int8), ("dynamic", {"quantize": "dynamic"})],
        ".onnx": [("float", {}), ("int8", int8)],
        ".keras": [("net", {})],
        ".h5": [("net", {})],
    }
    return {
        suffix: [tfbig.export(model, folder / f"{name}{suffix}", **options) for name, options in variants]
        for suffix, variants in exports.items()
    }


@pytest.fixture
def in_time():
    """Raises `TimeoutError` in whatever takes too long."""

    def too_long(*_: object) -> None:
        raise TimeoutError("the file was not refused in time")

    before = signal.signal(signal.SIGALRM, too_long)
    yield lambda: signal.alarm(_SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def use(path: Path) -> None:
    """What a user does with a file of the kind."""
    if path.suffix in (".keras", ".h5"):
        with warnings.catch_warnings():  # Compile settings may be damaged and left out, with a warning.
            warnings.simplefilter("ignore")
            tfbig.load(path).predict(np.zeros((1, 6, 6, 1), "float32"), verbose=0)
        return
    if path.suffix == ".tflite":
        tfbig.inspect(path)
    tfbig.measure(path, (np.zeros((2, 6, 6, 1), "float32"), np.zeros(2, "int64")), runs=1)


@pytest.mark.parametrize(("suffix", "least"), [(".tflite", 25), (".onnx", 20), (".keras", 20), (".h5", 15)])
def test_malformed_files_are_refused_in_our_words(wholes, suffix, least, tmp_path, in_time):
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # The largest of those of earlier tests.
    refused = 0
    for what, content in malformed(wholes[suffix], _PER_FORMAT, seed=len(suffix)):
        folder = tmp_path / what
        folder.mkdir()
        path = folder / f"damaged{suffix}"
        path.write_bytes(content)
        in_time()
        try:
            use(path)
        except TfbigError as error:
            refused += 1
            assert str(error).strip() and "Traceback" not in str(error), what
        assert os.listdir(folder) == [path.name] and path.read_bytes() == content, what
    assert sorted(os.listdir(tmp_path)) == sorted(f"{name}" for name, _ in malformed(wholes[suffix], _PER_FORMAT, 0))
    assert refused >= least
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 2 * _GIB
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < max(2 * _GIB, children + 1)


@pytest.mark.parametrize("place", ["../outside.txt", "/tmp/tfbig-outside.txt", "a/../../outside.txt"])
def test_archives_write_nothing_outside(wholes, place, tmp_path):
    (tmp_path / "inside").mkdir()
    path = tmp_path / "inside" / "tricky.keras"
    path.write_bytes(path_tricks(wholes[".keras"][0].read_bytes(), place))
    try:
        tfbig.load(path)
    except InvalidFile as error:
        assert "tricky.keras" in str(error)
    assert os.listdir(tmp_path) == ["inside"] and os.listdir(tmp_path / "inside") == ["tricky.keras"]
    assert not Path("/tmp/tfbig-outside.txt").exists() and not Path("outside.txt").exists()
