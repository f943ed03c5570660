"""Class folders of images: equal to Keras's loader, lazy, and clear about what is wrong with a folder."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfbig.data
from tfbig.errors import InvalidData, InvalidFile


def test_equals_keras_own_loader(tmp_path, make_images):
    for split in ("train", "validation", "test"):
        make_images(tmp_path / split, each=6)
    data = tfbig.data.load(f"images:{tmp_path}", image_size=9, batch_size=5)
    theirs = keras.utils.image_dataset_from_directory(
        tmp_path / "test", image_size=(9, 9), batch_size=5, shuffle=False, verbose=False
    )
    assert data.spec.class_names == tuple(theirs.class_names) == ("cat", "dog")
    assert data.spec.samples == {"train": 12, "validation": 12, "test": 12}
    for (x, y), (their_x, their_y) in zip(data.test, theirs, strict=True):
        np.testing.assert_array_equal(x, their_x)
        np.testing.assert_array_equal(y, their_y)


def test_labels_belong_to_their_images(tmp_path, make_images):
    data = tfbig.data.load(make_images(tmp_path, classes=("a", "b"), each=20), image_size=8)
    for split in (data.train, data.validation, data.test):
        for x, y in split:
            np.testing.assert_array_equal(tf.reduce_mean(x, [1, 2, 3]) > 60, y == 1)
    assert data.spec.samples == {"train": 28, "validation": 4, "test": 8}


def test_missing_splits_are_cut_from_train(tmp_path, make_images):
    make_images(tmp_path / "train", each=10)
    make_images(tmp_path / "val", each=3)
    data = tfbig.data.load(tmp_path, image_size=8)
    assert data.spec.samples == {"train": 16, "validation": 6, "test": 4}


def test_images_are_read_when_drawn(tmp_path, make_images):
    make_images(tmp_path)
    data = tfbig.data.load(tmp_path, image_size=8, batch_size=1)
    for file in tmp_path.rglob("*.jpg"):
        file.unlink()
    with pytest.raises(tf.errors.NotFoundError):
        next(iter(data.train))


def test_other_formats_and_hidden_files(tmp_path, make_images):
    make_images(tmp_path, each=4)
    image = np.full((5, 5, 1), 7, np.uint8)  # grey becomes three channels
    (tmp_path / "cat" / "grey.PNG").write_bytes(tf.io.encode_png(image).numpy())
    (tmp_path / "cat" / "deeper").mkdir()
    (tmp_path / "cat" / "deeper" / "one.png").write_bytes(tf.io.encode_png(image).numpy())
    (tmp_path / "cat" / "._000.jpg").write_bytes(b"resource fork")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    data = tfbig.data.load(tmp_path, image_size=8)
    assert sum(data.spec.samples.values()) == 10 and data.spec.class_names == ("cat", "dog")


def test_size_has_a_default_and_says_so(tmp_path, make_images):
    make_images(tmp_path)
    with pytest.warns(UserWarning, match="`image_size` was not given: .* resized to 96 x 96 pixels"):
        data = tfbig.data.load(tmp_path)
    assert data.spec.input_shape == (96, 96, 3)


def _truncate(path):
    path.write_bytes(path.read_bytes()[:200])


def _overwrite(path):
    path.write_bytes(b"this is no image" * 20)


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_truncate, _overwrite, _empty])
def test_corrupt_image_is_named(tmp_path, make_images, damage):
    make_images(tmp_path)
    damage(tmp_path / "dog" / "004.jpg")
    with pytest.raises(InvalidFile, match=r"1 image cannot be decoded: `.*dog/004\.jpg` \([^{]+\).*corrupt=\"skip\""):
        tfbig.data.load(tmp_path, image_size=8)
    with pytest.warns(UserWarning, match=r"Skipped 1 image that cannot be decoded: `.*dog/004\.jpg`\."):
        data = tfbig.data.load(tmp_path, image_size=8, corrupt="skip")
    assert data.spec.skipped == (str(tmp_path / "dog" / "004.jpg"),)
    assert (
        sum(data.spec.samples.values())
        == 19
        == sum(len(y) for s in (data.train, data.validation, data.test) for _, y in s)
    )


def test_many_corrupt_images_are_counted(tmp_path, make_images):
    make_images(tmp_path)
    for i in range(7):
        _empty(tmp_path / "cat" / f"{i:03d}.jpg")
    with pytest.raises(InvalidFile, match=r"7 images cannot be decoded: .*cat/004\.jpg` and 2 more"):
        tfbig.data.load(tmp_path, image_size=8)


def test_image_of_a_kind_that_cannot_be_decoded_is_not_passed_over(tmp_path, make_images):
    make_images(tmp_path)
    (tmp_path / "cat" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(50))
    with pytest.raises(InvalidFile, match=r"photo\.heic"):
        tfbig.data.load(tmp_path, image_size=8)


def test_class_whose_images_are_all_corrupt(tmp_path, make_images):
    make_images(tmp_path, each=3)
    for file in (tmp_path / "cat").iterdir():
        _empty(file)
    with (
        pytest.warns(UserWarning, match="Skipped 3"),
        pytest.raises(InvalidData, match="without images: cat"),
    ):
        tfbig.data.load(tmp_path, image_size=8, corrupt="skip")


def _folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)


def _one_class(root, make_images):
    make_images(root, classes=("cat",))


def _no_classes(root, make_images):
    make_images(root)
    for file in list((root / "cat").iterdir()):
        file.rename(root / file.name)
    (root / "cat").rmdir()
    for file in (root / "dog").iterdir():
        file.unlink()
    (root / "dog").rmdir()


def _half_empty(root, make_images):
    make_images(root)
    (root / "bird").mkdir()


def _strange_test(root, make_images):
    make_images(root / "train")
    make_images(root / "test", classes=("cat", "wolf"))


def _no_train(root, make_images):
    make_images(root / "validation")
    make_images(root / "test")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda root, _: None, "expected one folder of images for each class, .* received an empty folder"),
        (lambda root, _: _folders(root, "cat", "dog"), "has no images in its class folders"),
        (_one_class, "received only one class, `cat`. Add a second class"),
        (_no_classes, "received 10 images and no class folders. Sort the images into class folders"),
        (_half_empty, "has class folders without images: bird. Fill or remove them"),
        (_strange_test, "test` has classes that `.*train` has not: wolf"),
        (_no_train, "has validation and test, but no `train` folder beside"),
    ],
)
def test_folders_that_are_not_class_folders(tmp_path, make_images, build, message):
    build(tmp_path, make_images)
    with pytest.raises(InvalidData, match=message):
        tfbig.data.load(f"images:{tmp_path}", image_size=8)
