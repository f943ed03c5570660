"""`tfbig train`: builds a model by name and trains it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from tfbig.cli import options
from tfbig.cli.terminal import verbosity
from tfbig.errors import InvalidArgument
from tfbig.files import check_writable, refuse_existing

HELP = "build a model by name, train it, and save it as .keras"
EXAMPLE = "tfbig train resnet --data fashion_mnist --set depth=8 --epochs 8 --out resnet8.keras"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", metavar="NAME", help="a builder such as resnet, mlp, mobilenet, or a keras.applications name"
    )
    options.add_data(parser)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an argument of the builder")
    parser.add_argument("--out", required=True, metavar="FILE", help="the .keras file to write")
    options.add_training(parser, epochs=8)
    parser.add_argument("--strategy", default="none", help="none, mirrored, multiworker or tpu (default none)")
    parser.add_argument("--precision", default=None, help="float32, mixed_float16 or mixed_bfloat16")
    options.add_overwrite(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    refuse_existing(arguments.out, arguments.overwrite)
    settings = _settings(arguments.set)
    if Path(arguments.out).suffix != ".keras":
        raise InvalidArgument(f"`--out` must be the name of a .keras file, received '{arguments.out}'.")
    check_writable(arguments.out)
    import keras

    import tfbig

    options.check_loss(arguments.loss)
    keras.utils.set_random_seed(arguments.seed)
    data = options.load_data(arguments)
    shape = {"input_shape": data.spec.input_shape, "classes": data.spec.classes}
    model = tfbig.models.build(arguments.name, **{**shape, **settings})
    history = tfbig.training.fit(
        model,
        data.train,
        validation_data=data.validation,
        epochs=arguments.epochs,
        optimizer=arguments.optimizer,
        learning_rate=arguments.learning_rate,
        loss=arguments.loss,
        schedule="cosine",
        strategy=arguments.strategy,
        precision=arguments.precision,
        verbose=verbosity(arguments),
    )
    path = tfbig.export(model, arguments.out, overwrite=arguments.overwrite)
    last = {name: values[-1] for name, values in history.history.items()}
    if not (arguments.json or arguments.quiet):
        print(f"Wrote {path}: " + ", ".join(f"{name} {value:.4f}" for name, value in last.items()))
    return {"file": str(path), **last}


def _settings(pairs: list[str]) -> dict[str, object]:
    settings = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise InvalidArgument(f"`--set` must be KEY=VALUE, such as depth=8, received {pair!r}.")
        settings[key] = yaml.safe_load(value)
    return settings
