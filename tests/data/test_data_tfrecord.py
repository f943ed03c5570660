"""TFRecord files, and TFDS with a stand-in for its package."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

import tfbig.data
from tfbig.errors import InvalidArgument, InvalidData, InvalidFile


def _feature(value):
    if isinstance(value, bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    values = np.atleast_1d(value)
    if values.dtype.kind == "i":
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


def _write(path, records, compression=None):
    options = tf.io.TFRecordOptions(compression_type=compression)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in records:
            features = tf.train.Features(feature={name: _feature(value) for name, value in record.items()})
            writer.write(tf.train.Example(features=features).SerializeToString())
    return path


def _vectors(n=20):
    return [{"x": np.array([i, i / 2, 1.0]), "label": i % 2} for i in range(n)]


@pytest.mark.parametrize("compression", [None, "GZIP"])
def test_vectors(tmp_path, compression):
    _write(tmp_path / "a.tfrecord", _vectors(), compression)
    data = tfbig.data.load(tmp_path / "a.tfrecord", batch_size=4)
    assert data.spec.input_shape == (3,) and data.spec.classes == 2
    assert data.spec.samples == {"train": 14, "validation": 2, "test": 4}
    seen = [(float(x[0]), int(y)) for s in (data.train, data.validation, data.test) for x, y in s.unbatch()]
    assert sorted(seen) == [(float(i), i % 2) for i in range(20)]


def test_images(tmp_path):
    images = [np.full((6, 4, 3), 10 * i, np.uint8) for i in range(10)]
    records = [
        {"image/encoded": tf.io.encode_png(x).numpy(), "image/class/label": i % 2, "image/format": b"png"}
        for i, x in enumerate(images)
    ]
    _write(tmp_path / "a.tfrecord", records)
    data = tfbig.data.load(f"tfrecord:{tmp_path}/*.tfrecord", image_size=(6, 4))
    assert data.spec.input_shape == (6, 4, 3)
    for x, y in data.test.unbatch():
        assert int(x[0, 0, 0]) // 10 % 2 == int(y) and float(tf.math.reduce_std(x)) == 0


def test_files_named_for_their_split(tmp_path):
    for name, n in {
        "toy-train-0.tfrecord": 8,
        "toy-train-1.tfrecord": 8,
        "toy-val.tfrecord": 4,
        "toy_test.tfrecord": 6,
    }.items():
        _write(tmp_path / name, _vectors(n))
    data = tfbig.data.load(f"tfrecord:{tmp_path}/*.tfrecord")
    assert data.spec.samples == {"train": 16, "validation": 4, "test": 6}
    assert sum(len(y) for _, y in data.train) == 16


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"x": 1.0}, "must have one int64 label named label, target, .* received features x"),
        ({"x": 1.0, "label": 0.5}, "must have one int64 label"),
        ({"label": 1}, "must have one input besides 'label', .* received features none"),
        ({"p": 1.0, "q": 2.0, "label": 1}, "received features (p, q|q, p)"),
    ],
)
def test_records_of_another_form(tmp_path, record, message):
    _write(tmp_path / "a.tfrecord", [record])
    with pytest.raises(InvalidData, match=message):
        tfbig.data.load(tmp_path / "a.tfrecord")


@pytest.mark.parametrize(
    "damage",
    [lambda b: b[:-7], lambda b: b[:300] + b"\xff\xff\xff" + b[303:], lambda b: b"no record at all" * 9],
)
def test_damaged_files_are_named(tmp_path, damage):
    path = _write(tmp_path / "a.tfrecord", _vectors())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InvalidFile, match=r"a\.tfrecord` is damaged"):
        tfbig.data.load(path)


def test_a_record_without_label_is_found(tmp_path):
    path = _write(tmp_path / "a.tfrecord", [*_vectors(), {"x": np.ones(3)}])
    with pytest.raises(InvalidFile, match="is damaged or holds other records .*label"):
        tfbig.data.load(path)


@pytest.fixture
def catalogue(monkeypatch):
    """A stand-in for `tensorflow_datasets` with one data set, `squares`, of 50 training and 9 test images."""

    class NotFound(ValueError):
        pass

    def builder(name):
        if name != "squares":
            raise NotFound(name)
        return SimpleNamespace(info=info, download_and_prepare=lambda: None, as_dataset=as_dataset)

    def as_dataset(*, split, as_supervised, shuffle_files):
        name, start, stop = split.replace("[", ":").rstrip("]").split(":")
        offset = {"train": 0, "test": 100}[name]
        ids = tf.data.Dataset.range(offset + int(start), offset + int(stop))
        return ids.map(lambda i: (tf.cast(tf.fill((4, 4, 3), i), tf.uint8), i % 2))

    label = SimpleNamespace(num_classes=2, names=["even", "odd"])
    info = SimpleNamespace(
        splits={"train": SimpleNamespace(num_examples=50), "test": SimpleNamespace(num_examples=9)},
        features={"image": SimpleNamespace(shape=(4, 4, 3)), "label": label},
        supervised_keys=("image", "label"),
    )
    package = SimpleNamespace(
        builder=builder,
        list_builders=lambda: ["squares", "circles"],
        core=SimpleNamespace(registered=SimpleNamespace(DatasetNotFoundError=NotFound)),
        download=SimpleNamespace(DownloadError=OSError),
    )
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", package)


def _ids(dataset):
    return [int(x[0, 0, 0]) for x, _ in dataset.unbatch()]


def test_tfds_splits_and_shards(catalogue):
    data = tfbig.data.load("tfds:squares", batch_size=8)
    assert data.spec.samples == {"train": 45, "validation": 5, "test": 9}
    assert data.spec.class_names == ("even", "odd") and data.spec.dtype == "float32"
    first, second = _ids(data.train), _ids(data.train)
    assert sorted(first) == sorted(second) == list(range(45)) and first != second
    assert _ids(data.validation) == [45, 46, 47, 48, 49] and _ids(data.test) == list(range(100, 109))
    assert _ids(tfbig.data.load("tfds:squares").train) == first
    shards = [_ids(tfbig.data.load("tfds:squares", shard=(i, 2)).train) for i in range(2)]
    assert [len(shard) for shard in shards] == [22, 22] and len(set(shards[0] + shards[1])) == 44


def test_tfds_errors(catalogue):
    with pytest.raises(InvalidArgument, match=r"has no data set 'square'\. Did you mean 'squares'\?"):
        tfbig.data.load("tfds:square")
    with pytest.raises(InvalidData, match="too few training samples"):
        tfbig.data.load("tfds:squares", shard=(0, 60))


@pytest.mark.parametrize("left", [1, 5, 11])
def test_a_file_that_ends_within_the_first_bytes_of_a_record_is_cut_off(tmp_path, left):
    whole = _write(tmp_path / "a.tfrecord", _vectors()).read_bytes()
    first = _write(tmp_path / "b.tfrecord", _vectors(1)).read_bytes()
    (tmp_path / "a.tfrecord").write_bytes(whole[: 10 * len(first) + left])
    with pytest.raises(
        InvalidFile, match=rf"a.tfrecord` is cut off: {left} bytes are left behind its last whole record"
    ):
        tfbig.data.load(tmp_path / "a.tfrecord")
