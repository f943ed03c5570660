"""`tfbig compress`: a model file and data in, a folder with the smaller files and their proof out."""

from __future__ import annotations

import argparse

from tfbig.cli import options
from tfbig.cli.terminal import import_tensorflow, print_json, verbosity

HELP = "compress a model with a recipe, and measure every file that comes out"
EXAMPLE = "tfbig compress my_model.keras --data images:photos/ --recipe small --out saved_models/my_model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a .keras, .h5 or SavedModel file")
    options.add_data(parser)
    parser.add_argument("--recipe", required=True, metavar="RECIPE", help="a recipe's name, or a .yaml or .json file")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the result")
    options.add_training(parser, epochs=3)
    options.add_overwrite(parser)
    options.add_unsafe(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> None:
    from tfbig.files import refuse_existing

    refuse_existing(arguments.out, arguments.overwrite)
    import_tensorflow()
    import tfbig

    recipe = tfbig.Recipe.load(arguments.recipe)
    model = tfbig.load(arguments.model, unsafe=arguments.unsafe)
    data = options.load_data(arguments, model)
    result = tfbig.compress(
        model,
        recipe,
        train=data.train,
        validation=data.validation,
        test=data.test,
        epochs=arguments.epochs,
        optimizer=arguments.optimizer,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
        verbose=verbosity(arguments),
    )
    result.save(arguments.out, overwrite=arguments.overwrite)
    if arguments.json:
        print_json(result.report.to_dict())
    else:
        print(f"\n{result}\n\nThe files and report.html are in {arguments.out}")
