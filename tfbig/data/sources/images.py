"""`images:FOLDER`: a folder of images for each class, or such folders in `train`, `validation`, `test`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfbig.data.batching import allot, batches
from tfbig.data.dataset import Data, DataSpec, LoadOptions
from tfbig.data.image_files import CHANNELS, SUFFIXES, default_size, read_image, readable
from tfbig.errors import InvalidData, InvalidFile

ARGUMENT = "FOLDER"
SPLIT_FOLDERS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}

Files = tuple[list[str], np.ndarray]  # paths, and the class id of each


def recognises(path: str) -> bool:
    return os.path.isdir(path)


def load(argument: str, options: LoadOptions) -> Data:
    """Loads float32 images of shape `(image_size, image_size, 3)` in [0, 255], read from disk batch by batch.

    Classes are the names of the folders in alphabetical order. Every file is decoded once at the start, so
    that a corrupt one is found now and not hours into training. Splits without a folder are cut from train,
    stratified.

    Raises:
        InvalidFile: no such folder, or an image in it cannot be decoded.
        InvalidData: no class folders, fewer than two classes, or a class without images.
    """
    names, listed = _list_images(Path(argument))
    size = options.size or default_size(argument)
    files, skipped = {}, list[str]()
    for split, (paths, labels) in listed.items():
        mask = readable(paths, corrupt=options.corrupt)
        files[split] = [path for path, good in zip(paths, mask, strict=True) if good], labels[mask]
        skipped += [path for path, good in zip(paths, mask, strict=True) if not good]
        _check_complete(argument, split, names, files[split][1])
    parts = allot({split: labels for split, (_, labels) in files.items()}, options)
    readers = {split: _Reader(paths, labels, size) for split, (paths, labels) in files.items()}
    datasets = {
        split: batches(
            indices,
            readers[origin],
            batch_size=options.batch_size,
            seed=options.seed if split == "train" else None,
            one_by_one=True,
        )
        for split, (origin, indices) in parts.items()
    }
    samples: dict[str, int | None] = {split: len(indices) for split, (_, indices) in parts.items()}
    spec = DataSpec((*size, CHANNELS), "float32", len(names), names, samples, tuple(skipped))
    return Data(**datasets, spec=spec)


class _Reader:
    """Reads one image and its label by index."""

    def __init__(self, paths: list[str], labels: np.ndarray, size: tuple[int, int]):
        self.paths, self.labels, self.size = (
            tf.constant([os.fsencode(p) for p in paths]),
            tf.constant(labels),
            size,
        )

    def __call__(self, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return read_image(self.paths[index], self.size), self.labels[index]


def _list_images(folder: Path) -> tuple[tuple[str, ...], dict[str, Files]]:
    """Returns the class names, and the files of each split that has a folder (of "train" if none has)."""
    if not folder.is_dir():
        raise InvalidFile(f"There is no folder `{folder}`. Check the path; it is relative to `{Path.cwd()}`.")
    roots = _split_roots(folder)
    names = _class_names(roots["train"])
    files = {}
    for split, root in roots.items():
        if strange := sorted(set(_subfolders(root)) - set(names)):
            raise InvalidData(f"`{root}` has classes that `{roots['train']}` has not: {', '.join(strange)}.")
        listed = [(str(path), label) for label, name in enumerate(names) for path in _images_in(root / name)]
        files[split] = [path for path, _ in listed], np.array([label for _, label in listed], np.int64)
        _check_complete(str(root), split, names, files[split][1])
    return names, files


def _split_roots(folder: Path) -> dict[str, Path]:
    roots = {}
    for split, aliases in SPLIT_FOLDERS.items():
        found = [folder / name for name in aliases if (folder / name).is_dir() and _subfolders(folder / name)]
        if found:
            roots[split] = found[0]
    if roots and "train" not in roots:
        raise InvalidData(
            f"`{folder}` has {' and '.join(path.name for path in roots.values())}, "
            "but no `train` folder beside. "
            "Add it, with one folder of images for each class."
        )
    return roots or {"train": folder}


def _class_names(root: Path) -> tuple[str, ...]:
    names = tuple(_subfolders(root))
    expected = "expected one folder of images for each class, e.g. cats/ and dogs/"
    if not names:
        images = sum(1 for _ in _images_in(root))
        received = f"{images} images and no class folders" if images else "an empty folder"
        raise InvalidData(f"`{root}`: {expected}, received {received}. Sort the images into class folders.")
    if len(names) == 1:
        raise InvalidData(f"`{root}`: {expected}, received only one class, `{names[0]}`. Add a second class.")
    return names


def _check_complete(root: str, split: str, names: tuple[str, ...], labels: np.ndarray) -> None:
    """Every class needs images to train on; the other splits only need some."""
    counts = np.bincount(labels, minlength=len(names))
    empty = [name for name, count in zip(names, counts, strict=True) if not count]
    if not counts.sum():
        raise InvalidData(f"`{root}` has no images in its class folders. Images end in {', '.join(SUFFIXES[:5])}.")
    if split == "train" and empty:
        raise InvalidData(f"`{root}` has class folders without images: {', '.join(empty)}. Fill or remove them.")


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__")))


def _images_in(folder: Path) -> Iterator[Path]:
    """All images below a folder in a fixed order; hidden files (such as macOS's `._x.jpg`) are not images."""
    for root, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(files):
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(root, name)
