"""`tfbig tune`: which architecture, optimizer and learning rate, as a table over several seeds."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from tfbig.cli import options

HELP = "find the architecture, optimizer and learning rate for a data set"
EXAMPLE = 'tfbig tune resnet --data fashion_mnist --space "depth=[8, 14]" "optimizer=[adam, momentum]" --out tuned'

WATCHED = True  # As for `tfbig search`.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a builder such as resnet, mlp, mobilenet")
    options.add_data(parser)
    options.add_search(
        parser,
        trials="trainings to choose from",
        space="optimizer, rate (times what the range test suggests), schedule, warmup, batch_size, precision, "
        "augmentation, or an argument of the builder",
    )
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="passes over the data (default 3)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings for the table (default 3)")
    parser.add_argument("--loss", metavar="NAME", help="a Keras loss (default: what fits the model's output)")
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    settings = options.search_settings(arguments)
    import tfbig
    from tfbig.training.losses import check_loss

    check_loss(arguments.loss)
    result = tfbig.tune(arguments.name, options.load_data(arguments), seeds=arguments.seeds, **settings)
    if not arguments.json:
        print(f"\n{result.table}\n\nThe model is {Path(arguments.out) / 'best.keras'}")
    rows = [{**dataclasses.asdict(row), "mean": row.mean, "spread": row.spread} for row in result.rows]
    return {"rows": rows, "rates": dict(result.rates), "test_quality": result.test_quality, "verdict": result.verdict}
