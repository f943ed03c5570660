"""Bad input: the text of each error."""

from __future__ import annotations

import gzip
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig.data
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile, MissingPackage, TfbigError


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("digit", r"Unknown data name 'digit'\. Known: csv, digits, .* Did you mean 'digits'\?"),
        ("fashon_mnist", r"Did you mean 'fashion_mnist'\?"),
        ("imges:photos/", r"Unknown data name 'imges'.* Did you mean 'images'\?"),
        ("images", r"'images' must say where the data is: 'images:FOLDER', received 'images'"),
        ("npz:", r"'npz:PATH', received 'npz:'"),
        ("digits:8", r"'digits' takes nothing after its name, received 'digits:8'"),
        (42, r"`data` must be a spec such as 'digits' .* received int"),
        (None, r"received NoneType"),
    ],
)
def test_unknown_specs(spec, message):
    with pytest.raises(InvalidArgument, match=message):
        tfbig.data.load(spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "`batch_size` must be a whole number of at least 1, received 0"),
        ({"batch_size": 2.5}, "`batch_size` must be a whole number"),
        ({"validation": 0.7}, r"`validation` must be in \(0, 0.5\], received 0.7"),
        ({"validation": 0}, "`validation` must be in"),
        ({"seed": -1}, "`seed` must be a whole number of at least 0, received -1"),
        ({"image_size": 0}, "`image_size` must be a whole number of at least 1"),
        ({"image_size": (8, 8, 3)}, r"`image_size` must be one number or \(height, width\)"),
        (
            {"shard": (2, 2)},
            r"`shard` must be \(index, count\) with 0 <= index < count, .* received \(2, 2\)",
        ),
        ({"shard": 2}, "`shard` must be"),
        ({"corrupt": "ignore"}, "`corrupt` must be 'error' or 'skip', received 'ignore'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(InvalidArgument, match=message):
        tfbig.data.load("digits", **options)


@pytest.mark.parametrize(
    "spec", ["nowhere/a.npz", "csv:nowhere", "text:nowhere.txt", "nowhere/photos/", "images:nowhere"]
)
def test_missing_files(spec):
    with pytest.raises(InvalidFile, match="There is no (file|folder|file or folder) `nowhere"):
        tfbig.data.load(spec)


def test_tfrecord_pattern_without_files():
    with pytest.raises(InvalidFile, match=r"No file matches `nowhere/\*\.tfrecord`"):
        tfbig.data.load("tfrecord:nowhere/*.tfrecord")


def test_file_of_no_known_kind(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidFile, match="is of no kind that is recognised. Say which it is"):
        tfbig.data.load(tmp_path / "a.parquet")


def test_fashion_mnist_without_files_or_network(tmp_path, monkeypatch):
    def no_network():
        raise Exception("URL fetch failure on https://...: None -- no route")

    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", no_network)
    with pytest.raises(InvalidFile, match="could not be read or downloaded: URL fetch failure.*KERAS_HOME"):
        tfbig.data.load("fashion_mnist")


def test_fashion_mnist_damaged(tmp_path, monkeypatch):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1000))[:-12])
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: gzip.open(tmp_path / "a.gz").read())
    with pytest.raises(InvalidFile, match="Fashion-MNIST could not be read.*end-of-stream"):
        tfbig.data.load("fashion_mnist")


def _npz(path, arrays, **changes):
    np.savez(path, **{key: value for key, value in {**arrays, **changes}.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None, "x_test": None}, "x_test, y_test missing, received x_train, y_train"),
        ({"x_validation": np.zeros((2, 3))}, "y_validation missing"),
        ({"y_train": np.arange(39) % 4}, "x and y of the train split .* x has 40 samples, y has 39"),
        ({"x_test": np.zeros((8, 5))}, r"samples of one shape: train has \(3,\), test has \(5,\)"),
        ({"y_train": np.arange(40) % 4 - 1}, "Labels out of range: the train split has label -1"),
        (
            {"y_test": np.arange(8) + 50},
            "Labels out of range: the test split has label 57, train has labels 0 to 3",
        ),
        ({"y_train": np.full(40, np.nan)}, "labels of the train split must be finite, .* first in sample 0"),
        ({"y_train": np.full((40, 2), 1j)}, r"class ids or values, .* received an array of shape \(40, 2\) and type"),
        (
            {"x_train": np.full((40, 3), np.nan)},
            "must be finite, received NaN or infinity, first in sample 0",
        ),
        ({"x_test": np.zeros((8, 3)) * 1j}, "must be numbers or strings, received an array of type complex"),
        ({"x_train": np.zeros((0, 3)), "y_train": np.zeros(0, int)}, "The train split is empty"),
    ],
)
def test_npz_with_bad_arrays(tmp_path, table, changes, message):
    with pytest.raises(InvalidData, match=message):
        tfbig.data.load(_npz(tmp_path / "a.npz", table, **changes))


def test_npz_names_the_bad_sample(tmp_path, table):
    table["x_train"][17, 1] = np.inf
    with pytest.raises(InvalidData, match="first in sample 17"):
        tfbig.data.load(_npz(tmp_path / "a.npz", table))


class _Harmful:
    """A pickle of this would call `sys.exit` when it is read."""

    def __reduce__(self):
        return sys.exit, (3,)


def test_npz_is_never_unpickled(tmp_path, table):
    path = _npz(tmp_path / "a.npz", table, x_train=np.array([_Harmful()] * 40, dtype=object))
    with pytest.raises(InvalidFile, match="Array `x_train` of .* holds pickled Python objects"):
        tfbig.data.load(path)


def test_truncated_npz(tmp_path, table):
    path = _npz(tmp_path / "a.npz", table)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InvalidFile, match=r"a\.npz` is not a whole \.npz archive"):
        tfbig.data.load(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_npz_never_escapes_as_another_error(tmp_path, table, save):
    save(tmp_path / "good.npz", **table)
    good, rng = (tmp_path / "good.npz").read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(60):
        bad = bytearray(good)
        bad[rng.integers(len(bad))] ^= 1 << rng.integers(8)
        (tmp_path / "a.npz").write_bytes(bad)
        try:
            tfbig.data.load(tmp_path / "a.npz")
        except TfbigError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("a,b,label\n1,2,0\n3,red,1\n", InvalidData, "line 3: column 'b' must hold numbers, received 'red'"),
        ("a,b,label\n1,2,0\n3,,1\n", InvalidData, r"line 3: column 'b' has no value \(received ''\)"),
        ("a,b,label\n1,NA,0\n", InvalidData, r"line 2: column 'b' has no value \(received 'NA'\)"),
        ("a,b,label\n1,2,\n", InvalidData, "line 2: column 'label' has no value"),
        ("a,b,label\n1,inf,0\n", InvalidData, "column 'b' must hold numbers, received 'inf'"),
        ("a,b,label\n1,2,0\n3,4\n", InvalidData, "line 3: expected 3 columns, received 2"),
        ("1,2,0\n3,x,1\n", InvalidData, "line 2: column 'column 2' must hold numbers, received 'x'"),
        ("a,b,label\n", InvalidData, "has a header but no rows"),
        ("", InvalidData, "must have at least a feature and a label column"),
        ("a,b,label\n" + "1,2,-1\n" * 9, InvalidData, "Labels out of range: the train split has label -1"),
        (
            b"a,b,label\n1,2,0\n3,\xe9t\xe9,1\n",
            InvalidFile,
            "must be UTF-8 text, received byte 0xe9 in line 3",
        ),
    ],
)
def test_bad_csv(tmp_path, text, error, message):
    path = tmp_path / "a.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(error, match=message):
        tfbig.data.load(path)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (b"ham\thello\nspam buy\n", InvalidData, "line 2: expected label<TAB>text, received 'spam buy'"),
        (b"ham\t\n", InvalidData, "line 1: expected label<TAB>text"),
        (b"\n\n", InvalidData, "has no lines"),
        (
            "ham\tça va\n".encode("latin-1"),
            InvalidFile,
            "byte 0xe7 in line 1. Convert it, e.g. iconv -f LATIN1",
        ),
        ("ham\thello\n".encode("utf-16"), InvalidFile, "iconv -f UTF-16 -t UTF-8"),
    ],
)
def test_bad_text(tmp_path, content, error, message):
    path = tmp_path / "a.tsv"
    path.write_bytes(content)
    with pytest.raises(error, match=message):
        tfbig.data.load(path)


def test_tfds_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(MissingPackage, match="'tfds:mnist' needs .*: pip install tensorflow-datasets$"):
        tfbig.data.load("tfds:mnist")


def test_datasets_that_do_not_yield_batches_of_pairs():
    numbers = tf.data.Dataset.range(8)
    with pytest.raises(InvalidData, match=r"The train dataset must yield pairs \(x, y\)"):
        tfbig.data.load(numbers.batch(2))
    with pytest.raises(InvalidData, match=r"must yield batches, received single samples .* Call \.batch\(32\)"):
        tfbig.data.load(numbers.map(lambda i: ([i, i], i)))
    pairs = numbers.map(lambda i: ([i, i], i)).batch(2)
    with pytest.raises(InvalidData, match="The test dataset must yield pairs"):
        tfbig.data.load(SimpleNamespace(train=pairs, validation=None, test=numbers.batch(2)))


def test_labels_that_train_does_not_know():
    x = np.zeros((10, 2))
    with pytest.raises(InvalidData, match="The test split has labels that train has not: bird"):
        tfbig.data.load(((x, np.array(["cat", "dog"] * 5)), (x, np.array(["cat", "bird"] * 5))))
