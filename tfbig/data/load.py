"""`tfbig.data.load`: from a spec, or from data that the user already has, to three batched splits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tfbig.data.dataset import Data, LoadOptions
from tfbig.data.given import from_user
from tfbig.errors import InvalidArgument, InvalidFile, unknown
from tfbig.registry import Registry

_sources = Registry("tfbig.data.sources", "data name")


def names() -> list[str]:
    """The names of the data sources, sorted."""
    return _sources.names()


def load(
    spec: Any,
    *,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 32,
    validation: float = 0.1,
    seed: int = 0,
    shard: tuple[int, int] | None = None,
    corrupt: str = "error",
    ids: bool = True,
) -> Data:
    """Loads data as `.train`, `.validation` and `.test`, batched `tf.data.Dataset` of `(x, y)`, and `.spec`.

    Splits that the source does not have are cut from its training samples, stratified by class: 20 % for
    test, and `validation` for validation. Labels that name classes are ids, int64. The same seed gives the same splits
    and orders.

    Args:
        spec: a source ("digits", "fashion_mnist"), a source and its argument ("images:photos/", "npz:a.npz",
            "csv:a.csv", "text:a.tsv", "tfrecord:a-*.tfrecord", "tfds:mnist"), a path whose kind shows; or
            data: a `tf.data.Dataset`, a pair `(x, y)`, Keras's `((x, y), (x, y))`, anything with `.train`.
        image_size: side in pixels, or `(height, width)`, to resize images to, 1 or more; 96 for files of
            images.
        batch_size: samples in a batch, 1 or more; with `shard`, in the batch of one worker.
        validation: share of the training samples (before test is cut) that become validation, in (0, 0.5].
        seed: of splits and shuffling, 0 or more; Python's, NumPy's and TensorFlow's own seeds play no part.
        shard: `(index, count)`: keeps every count-th training sample, the part of one worker; validation and
            test stay whole.
        corrupt: "error" refuses images that cannot be decoded, "skip" leaves them out with a warning; both
            name them.
        ids: whether labels that name classes become class ids; False leaves numbers what they are, for losses that want
            one-hot rows or values.

    Raises:
        InvalidArgument: an unknown source (the nearest is named), or an argument outside its range.
        InvalidFile: a file is missing, damaged or in another encoding.
        InvalidData: the data is empty, malformed, or its labels are not class ids.
        MissingPackage: the source needs a package that is not installed.
    """
    options = LoadOptions(image_size, batch_size, validation, seed, shard, corrupt, ids)
    if not isinstance(spec, str | os.PathLike):
        return from_user(spec, options)
    name, argument = _parse(os.fspath(spec))
    return _sources[name].load(argument, options)


def _parse(spec: str) -> tuple[str, str]:
    """Splits a spec into the source and its argument."""
    name, colon, argument = spec.partition(":")
    if name in _sources:
        wanted = _sources[name].ARGUMENT
        if wanted and not argument:
            raise InvalidArgument(f"Data '{name}' must say where the data is: '{name}:{wanted}', received '{spec}'.")
        if colon and not wanted:
            raise InvalidArgument(f"Data '{name}' takes nothing after its name, received '{spec}'.")
        return name, argument
    for source in names():
        if _sources[source].recognises(spec):
            return source, spec
    if os.path.exists(spec):
        raise InvalidFile(f"`{spec}` is of no kind that is recognised. Say which it is, e.g. 'text:{spec}'.")
    if os.sep in spec and not colon:
        raise InvalidFile(f"There is no file or folder `{spec}`. Check the path; it is relative to `{Path.cwd()}`.")
    raise unknown("data name", name, names())
