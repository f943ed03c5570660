"""`tfbig tune`: which architecture, optimizer and learning rate, as a table over several seeds."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from tfbig.cli import options
from tfbig.cli.commands.search import key_values
from tfbig.files import set_aside

HELP = "find the architecture, optimizer and learning rate for a data set"
EXAMPLE = 'tfbig tune resnet --data fashion_mnist --space "depth=[8, 14]" "optimizer=[adam, momentum]" --out tuned'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a builder such as resnet, mlp, mobilenet")
    options.add_data(parser)
    parser.add_argument(
        "--space",
        nargs="+",
        action="extend",
        default=[],
        metavar="CHOICE=VALUES",
        help="optimizer, rate, schedule, warmup, batch_size, precision, augmentation, or an argument of the builder",
    )
    parser.add_argument("--trials", type=int, default=16, metavar="N", help="trainings to choose from (default 16)")
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="passes over the data (default 3)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings for the table (default 3)")
    parser.add_argument(
        "--algorithm", default="bayesian", metavar="NAME", help="bayesian (default), random or hyperband"
    )
    parser.add_argument("--loss", metavar="NAME", help="a Keras loss (default: what fits the model's output)")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for best.keras; a search that was stopped goes on there"
    )
    options.add_overwrite(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    space = key_values("space", arguments.space)
    import tfbig

    options.check_loss(arguments.loss)
    data = options.load_data(arguments)
    with set_aside(arguments.out, wanted=arguments.overwrite):
        result = tfbig.tune(
            arguments.name,
            data,
            space=space,
            trials=arguments.trials,
            epochs=arguments.epochs,
            seeds=arguments.seeds,
            algorithm=arguments.algorithm,
            directory=arguments.out,
            loss=arguments.loss,
            seed=arguments.seed,
            verbose=0 if arguments.quiet or arguments.json else 1,
        )
    if not arguments.json:
        print(f"\n{result.table}\n\nThe model is {Path(arguments.out) / 'best.keras'}")
    rows = [{**dataclasses.asdict(row), "mean": row.mean, "spread": row.spread} for row in result.rows]
    return {"rows": rows, "rates": dict(result.rates), "test_quality": result.test_quality, "verdict": result.verdict}
