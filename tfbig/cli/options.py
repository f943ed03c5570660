"""Options that several commands share."""

from __future__ import annotations

import argparse


def add_data(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--data",
        metavar="SPEC",
        required=required,
        help="digits, fashion_mnist, images:FOLDER, a .npz or .csv file, text:FILE, ...",
    )
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="size that images are resized to")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="examples per step (default 32)")
    parser.add_argument("--seed", type=int, default=0, help="of splits, shuffling and training (default 0)")


def add_training(parser: argparse.ArgumentParser, *, epochs: int) -> None:
    parser.add_argument("--epochs", type=int, default=epochs, metavar="N", help=f"passes over the data (default {epochs})")
    parser.add_argument("--optimizer", default="adam", help="name of a Keras optimizer (default adam)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, metavar="RATE", help="at the start (default 0.001)")


def add_output(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    parser.add_argument("--quiet", action="store_true", help="no progress")
    if json:
        parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what is at the output")


def add_unsafe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--unsafe", action="store_true", help="load models that bring their own Python code (Lambda); only if you trust them"
    )


def load_data(arguments: argparse.Namespace, model: object = None):
    """The data of `add_data`'s options; images take the size that the model expects."""
    from tfbig import data

    size = arguments.image_size or _image_size(model)
    return data.load(arguments.data, image_size=size, batch_size=arguments.batch_size, seed=arguments.seed)


def _image_size(model: object) -> tuple[int, int] | None:
    shape = getattr(model, "input_shape", None)
    if isinstance(shape, tuple) and len(shape) == 4 and None not in shape[1:3]:
        return shape[1:3]
    return None
