"""Each source in turn, and the contract that all of them keep."""

from __future__ import annotations

import inspect
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig.data
from tfbig.data import sources
from tfbig.data.load import _sources
from tfbig.errors import InvalidArgument

SIZED = {"image_size": 12}


@pytest.fixture
def specs(tmp_path, table, make_images, monkeypatch) -> dict[str, str]:
    """A working spec for every source; `test_every_source_has_a_working_spec` fails when one is forgotten."""
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (60, 28, 28), dtype=np.uint8), np.arange(60, dtype=np.uint8) % 10
    monkeypatch.setattr(keras.datasets.fashion_mnist, "load_data", lambda: (train, train))
    np.savez(tmp_path / "a.npz", **table)
    rows = [f"{i},{i * i},{'ab'[i % 2]}" for i in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(["one,two,label", *rows]))
    (tmp_path / "a.tsv").write_text("ham\thello thére\nspam\tbuy\n" * 10, encoding="utf-8")
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for i in range(20):
            x = tf.train.Feature(float_list=tf.train.FloatList(value=[i, -i]))
            y = tf.train.Feature(int64_list=tf.train.Int64List(value=[i % 2]))
            example = tf.train.Example(features=tf.train.Features(feature={"x": x, "label": y}))
            writer.write(example.SerializeToString())
    return {
        "digits": "digits",
        "fashion_mnist": "fashion_mnist",
        "npz": f"npz:{tmp_path / 'a.npz'}",
        "csv": f"csv:{tmp_path / 'a.csv'}",
        "text": f"text:{tmp_path / 'a.tsv'}",
        "tfrecord": f"tfrecord:{tmp_path / '*.tfrecord'}",
        "images": f"images:{make_images(tmp_path / 'photos')}",
    }


LOCAL = [name for name in tfbig.data.names() if name != "tfds"]  # tfds has its own file: its package is optional


def test_names_are_the_files_of_the_folder():
    files = {path.stem for path in Path(sources.__path__[0]).glob("[a-z]*.py")}
    assert set(tfbig.data.names()) == files
    assert {"digits", "fashion_mnist", "images", "npz", "csv", "text", "tfrecord", "tfds"} <= files


@pytest.mark.parametrize("name", tfbig.data.names())
def test_contract_of_the_module(name):
    source = _sources[name]
    assert list(inspect.signature(source.load).parameters) == ["argument", "options"]
    assert source.recognises("no such file") is False
    assert source.ARGUMENT is None or source.ARGUMENT.isupper()
    assert source.__doc__.startswith(f"`{name}") and source.load.__doc__


def test_every_source_has_a_working_spec(specs):
    assert set(specs) == set(LOCAL)


@pytest.mark.parametrize("name", LOCAL)
def test_contract_of_the_data(name, specs):
    data = tfbig.data.load(specs[name], **(SIZED if name == "images" else {}), batch_size=8)
    for split in ("train", "validation", "test"):
        dataset = getattr(data, split)
        x, y = dataset.element_spec
        assert tuple(x.shape[1:]) == data.spec.input_shape and x.dtype.name == data.spec.dtype
        assert y.dtype == tf.int64 and y.shape.rank == 1
        labels = np.concatenate([batch.numpy() for _, batch in dataset])
        assert len(labels) == data.spec.samples[split] > 0
        assert labels.min() >= 0 and labels.max() < data.spec.classes
        assert dataset.cardinality() == -(-len(labels) // 8)
        assert dataset.options().autotune.enabled is False, "an iterator waits for its tuner when it ends"
    if data.spec.class_names:
        assert len(data.spec.class_names) == data.spec.classes


@pytest.mark.parametrize("name", LOCAL)
def test_same_seed_same_order(name, specs):
    def orders(seed: int) -> list:
        options = SIZED if name == "images" else {}
        data = tfbig.data.load(specs[name], seed=seed, batch_size=4, **options)
        return [[x.numpy().tolist() for x, _ in data.train] for _ in range(2)]

    first = orders(seed=3)
    keras.utils.set_random_seed(99)  # other people's seeds play no part
    assert orders(seed=3) == first
    assert first[0] != first[1], "each epoch has an order of its own"
    assert orders(seed=4) != first


@pytest.mark.parametrize("name", LOCAL)
def test_shards_are_equal_and_disjoint(name, specs):
    options = SIZED if name == "images" else {}
    whole = tfbig.data.load(specs[name], **options).spec.samples["train"]
    parts = [tfbig.data.load(specs[name], shard=(i, 3), batch_size=1, **options) for i in range(3)]
    assert {part.spec.samples["train"] for part in parts} == {whole // 3}
    seen = [x.numpy().tobytes() if x.dtype != tf.string else x.numpy()[0] for p in parts for x, _ in p.train]
    assert len(seen) == whole // 3 * 3
    if name != "text":  # whose lines repeat
        assert len(set(seen)) == len(seen)


def test_digits_are_what_scikit_learn_has():
    from sklearn.datasets import load_digits

    data = tfbig.data.load("digits")
    assert data.spec.input_shape == (8, 8, 1) and data.spec.classes == 10
    assert data.spec.samples == {"train": 1258, "validation": 180, "test": 359}
    pairs = [pair for split in (data.train, data.validation, data.test) for pair in split.unbatch()]
    ours = sorted((x.numpy()[..., 0] * 16).astype(int).tobytes() + bytes([y]) for x, y in pairs)
    images, labels = load_digits(return_X_y=True)
    assert ours == sorted(x.astype(int).tobytes() + bytes([y]) for x, y in zip(images, labels, strict=True))


def test_digits_are_stratified():
    data = tfbig.data.load("digits")
    counts = np.bincount(np.concatenate([y for _, y in data.test]))
    assert counts.min() >= 34 and counts.max() <= 37  # a fifth of 174 to 183


def test_fashion_mnist_keeps_its_test_images(specs):
    data = tfbig.data.load("fashion_mnist", validation=0.2)
    (_, _), (images, labels) = keras.datasets.fashion_mnist.load_data()
    assert data.spec.samples == {"train": 48, "validation": 12, "test": 60}
    assert data.spec.class_names[9] == "ankle boot"
    x = np.concatenate([batch for batch, _ in data.test])
    np.testing.assert_allclose(x[..., 0], images / 255, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([y for _, y in data.test]), labels)


def test_npz_takes_its_own_validation_split(tmp_path, table):
    path = tmp_path / "a.npz"
    np.savez(path, **table, x_validation=table["x_test"] + 1, y_validation=table["y_test"])
    data = tfbig.data.load(path)
    assert data.spec.samples == {"train": 40, "validation": 8, "test": 8}
    np.testing.assert_allclose(next(iter(data.validation))[0], table["x_test"] + 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("uint8", "float32"),
        ("float64", "float32"),
        ("float16", "float32"),
        ("bool", "float32"),
        ("int32", "int32"),
    ],
)
def test_npz_types(tmp_path, table, dtype, expected):
    table |= {name: np.abs(table[name]).astype(dtype) for name in ("x_train", "x_test")}
    np.savez(tmp_path / "a.npz", **table)
    data = tfbig.data.load(tmp_path / "a.npz")
    assert data.spec.dtype == expected
    np.testing.assert_allclose(next(iter(data.test))[0], table["x_test"].astype(expected))


@pytest.mark.parametrize(
    ("text", "label", "names"),
    [
        ("a,b,label\n1,2,0\n3,4,1\n", 2, None),
        ("target;a;b\n0;1;2\n1;3;4\n", 0, None),
        ("1\t2\tyes\n3\t4\tno\n", 2, ("no", "yes")),  # no header, labels are names
        ("1,2,0\n3,4,1\n", 2, None),
        ("\ufeffa,b,Class\n1,2,1.0\n3,4,0\n", 2, None),
        ('"a","b","label"\r\n"1","2","0"\r\n"3","4","1"\r\n', 2, None),
    ],
)
def test_csv_forms(tmp_path, text, label, names):
    lines = text.splitlines(keepends=True)
    header = lines[:1] if len(lines) == 3 else []
    path = tmp_path / "a.csv"
    path.write_text("".join(header + lines[len(header) :] * 5), encoding="utf-8", newline="")
    data = tfbig.data.load(path, batch_size=100)
    assert data.spec.input_shape == (2,) and data.spec.classes == 2 and data.spec.class_names == names
    rows = {
        tuple(x) + (int(y),)
        for split in (data.train, data.test)
        for xs, ys in split
        for x, y in zip(xs.numpy().tolist(), ys, strict=True)
    }
    assert {row[:2] for row in rows} <= {(1.0, 2.0), (3.0, 4.0)} and len(rows) == 2


def test_text_gives_the_lines(specs):
    data = tfbig.data.load(specs["text"], batch_size=100)
    texts, labels = next(iter(data.train))
    pairs = {(text.decode(), data.spec.class_names[y]) for text, y in zip(texts.numpy(), labels, strict=True)}
    assert pairs == {("hello thére", "ham"), ("buy", "spam")}
    assert data.spec.dtype == "string" and data.spec.input_shape == ()


def test_paths_are_recognised(specs):
    for name in ("npz", "csv", "text", "images"):
        path = specs[name].partition(":")[2]
        options = SIZED if name == "images" else {}
        assert tfbig.data.load(path, **options).spec == tfbig.data.load(specs[name], **options).spec


@pytest.mark.parametrize("size", [16, (4, 6)])
def test_image_size_resizes_arrays(size):
    data = tfbig.data.load("digits", image_size=size)
    height, width = (size, size) if isinstance(size, int) else size
    plain, resized = next(iter(tfbig.data.load("digits").test))[0], next(iter(data.test))[0]
    assert data.spec.input_shape == (height, width, 1)
    np.testing.assert_allclose(resized, tf.image.resize(plain, (height, width)))


def test_image_size_is_refused_for_vectors(specs):
    with pytest.raises(InvalidArgument, match=r"`image_size` is for images .* received samples of shape \(3,\)"):
        tfbig.data.load(specs["npz"], image_size=8)


def test_exported_names():
    assert tfbig.data.__all__ == [
        "Data",
        "DataSpec",
        "Tokenizer",
        "augmentation",
        "check_fits",
        "load",
        "names",
        "splits",
    ]
    assert all(hasattr(tfbig.data, name) for name in tfbig.data.__all__)
