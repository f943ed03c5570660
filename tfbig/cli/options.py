"""Options that several commands share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from typing import Any

from tfbig.errors import InvalidArgument

TOKENIZER = "tokenizer.json"  # inside the file of a model that reads texts
_FILES_OF_IMAGES = ("images", "tfrecord", "tfds")  # Their images have no size of their own to be kept.


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .keras or .h5 file, or a SavedModel folder")
    parser.add_argument(
        "--unsafe",
        action="store_true",
        help="load models that bring their own Python code (Lambda); only if you trust them",
    )


def add_data(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--data",
        metavar="SPEC",
        required=required,
        help="digits, fashion_mnist, images:FOLDER, a .npz or .csv file, text:FILE, ...",
    )
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="size that images are resized to")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="samples per step (default 32)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of splits, shuffling and training (default 0)"
    )


def add_training(parser: argparse.ArgumentParser, *, epochs: int) -> None:
    parser.add_argument(
        "--epochs", type=int, default=epochs, metavar="N", help=f"passes over the data (default {epochs})"
    )
    parser.add_argument("--optimizer", default="adam", metavar="NAME", help="adam (default), sgd, adamw, ...")
    parser.add_argument("--loss", metavar="NAME", help="a Keras loss (default: what fits the model's output)")
    parser.add_argument(
        "--learning-rate", type=float, metavar="RATE", help="at the start (default: the optimizer's own)"
    )


def add_search(parser: argparse.ArgumentParser, *, trials: str, space: str) -> None:
    """The options of whatever tries many things and keeps the best.

    Args:
        trials, space: what these options mean there.
    """
    parser.add_argument("--trials", type=int, default=16, metavar="N", help=f"{trials} (default 16)")
    parser.add_argument(
        "--algorithm", default="bayesian", metavar="NAME", help="bayesian (default), random or hyperband"
    )
    parser.add_argument("--space", nargs="+", action="extend", default=[], metavar="CHOICE=VALUES", help=space)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the result; a search that was stopped goes on there"
    )
    add_overwrite(parser)


def search_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the options of `add_search` and its neighbours are to `tfbig.search` and `tfbig.tune`."""
    return {
        "trials": arguments.trials,
        "epochs": arguments.epochs,
        "algorithm": arguments.algorithm,
        "space": key_values("space", arguments.space, example="bits=int8"),
        "directory": arguments.out,
        "loss": arguments.loss,
        "seed": arguments.seed,
        "verbose": 0 if arguments.quiet or arguments.json else 1,
    }


def key_values(option: str, pairs: Iterable[str], *, example: str) -> dict[str, Any]:
    """`KEY=VALUE` arguments as a dictionary, the values read as YAML.

    Raises:
        InvalidArgument: an argument without "=", or a value that is no YAML.
    """
    import yaml

    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            value = ""
        if not value:
            raise InvalidArgument(f"`--{option}` must be KEY=VALUE, such as {example}, received {pair!r}.")
    return found


def add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what is at the output")


def load_data(arguments: argparse.Namespace, model: Any = None) -> Any:
    """The data of `add_data`'s options: images in the size of the model, texts as the tokenizer in its file reads."""
    from tfbig import data

    size = arguments.image_size if arguments.image_size is not None else _image_size(arguments.data, model)
    given = {"image_size": size, "batch_size": arguments.batch_size, "seed": arguments.seed}
    loaded = data.load(arguments.data, **given, ids=_takes_class_ids(model, getattr(arguments, "loss", None)))
    file = getattr(arguments, "model", None) or getattr(arguments, "file", None)
    if loaded.spec.dtype == "string" and file is not None:
        from tfbig.exporters.associated_files import read_associated_files

        if tokenizer := read_associated_files(file).get(TOKENIZER):
            return data.Tokenizer.from_json(tokenizer).applied_to(loaded)
    return loaded


def _takes_class_ids(model: Any, loss: str | None) -> bool:
    import keras

    from tfbig.training.compilation import takes_class_ids

    return takes_class_ids(model, loss) if isinstance(model, keras.Model) else True


def _image_size(spec: str, model: Any) -> tuple[int, int] | None:
    shape = getattr(model, "input_shape", None)
    known = isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:3]
    if known and (spec.partition(":")[0] in _FILES_OF_IMAGES or os.path.isdir(spec)):
        return shape[1:3]  # type: ignore[index]
    return None
