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
    from tfbig.training.losses import check_loss

    check_loss(arguments.loss)
    keras.utils.set_random_seed(arguments.seed)
    known = tfbig.models.arguments_of(arguments.name)
    data, settings, inside = _tokenized(options.load_data(arguments), settings, known, arguments.name)
    shape = {"input_shape": data.spec.input_shape, "classes": data.spec.classes}
    shape = {name: value for name, value in shape.items() if name in known}
    model = tfbig.models.build(arguments.name, **{**shape, **settings})
    tfbig.data.check_fits(model, data)
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
    path = tfbig.export(model, arguments.out, overwrite=arguments.overwrite, associated_files=inside)
    last = {name: values[-1] for name, values in history.history.items()}
    if not (arguments.json or arguments.quiet):
        print(f"Wrote {path}: " + ", ".join(f"{name} {value:.4f}" for name, value in last.items()))
    return {"file": str(path), **last}


def _tokenized(data: Any, settings: dict[str, Any], known: list[str], name: str) -> tuple[Any, dict, dict[str, str]]:
    """Texts as word ids, the arguments of a model that reads them, and the tokenizer for the model's file."""
    if data.spec.dtype != "string":
        return data, settings, {}
    if "vocabulary" not in known:
        raise InvalidArgument(f"`--data` holds texts, and '{name}' takes numbers. Train text_classifier on them.")
    from tfbig.data import Tokenizer

    own = {"vocabulary": "size", "length": "length"}
    tokenizer = Tokenizer.fit(data.train, **{own[key]: settings[key] for key in own if key in settings})
    settings = {**settings, "vocabulary": len(tokenizer.vocabulary), "length": tokenizer.length}
    return tokenizer.applied_to(data), settings, {options.TOKENIZER: tokenizer.to_json()}


def _settings(pairs: list[str]) -> dict[str, Any]:
    settings = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise InvalidArgument(f"`--set` must be KEY=VALUE, such as depth=8, received {pair!r}.")
        settings[key] = yaml.safe_load(value)
    return settings
