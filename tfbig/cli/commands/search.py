"""`tfbig search`: what the device allows in, the best recipe and the front of measured files out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from tfbig.cli import options
from tfbig.errors import InvalidArgument
from tfbig.files import set_aside

HELP = "search for the best recipe under a budget of bytes, latency or quality"
EXAMPLE = "tfbig search my_model.keras --data images:photos/ --budget max_bytes=70000 max_drop=0.01 --out searched"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    options.add_data(parser)
    parser.add_argument(
        "--budget",
        nargs="+",
        action="extend",
        default=[],
        metavar="LIMIT=NUMBER",
        help="max_bytes, max_gzip_bytes, max_latency_ms, max_macs, max_drop or min_quality",
    )
    parser.add_argument(
        "--objective",
        default="quality",
        metavar="NAME",
        help="quality (default), bytes, gzip_bytes, latency_ms or macs",
    )
    parser.add_argument("--trials", type=int, default=16, metavar="N", help="recipes to train (default 16)")
    parser.add_argument(
        "--algorithm", default="bayesian", metavar="NAME", help="bayesian (default), random or hyperband"
    )
    parser.add_argument(
        "--space",
        nargs="+",
        action="extend",
        default=[],
        metavar="CHOICE=VALUES",
        help='choices in place of the usual ones, such as "bits=[int8, int4]" or distill=true',
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder for the files; a search that was stopped goes on there"
    )
    options.add_training(parser, epochs=3)
    options.add_overwrite(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    budget, space = key_values("budget", arguments.budget), key_values("space", arguments.space)
    import tfbig
    from tfbig.report.table import print_report
    from tfbig.tuning.budget import Budget

    Budget.of(budget)
    options.check_loss(arguments.loss)
    model = tfbig.load(arguments.model, unsafe=arguments.unsafe)
    data = options.load_data(arguments, model)
    with set_aside(arguments.out, wanted=arguments.overwrite):
        result = tfbig.search(
            model,
            data,
            budget=budget,
            objective=arguments.objective,
            trials=arguments.trials,
            epochs=arguments.epochs,
            algorithm=arguments.algorithm,
            space=space,
            directory=arguments.out,
            optimizer=arguments.optimizer,
            learning_rate=arguments.learning_rate,
            loss=arguments.loss,
            seed=arguments.seed,
            verbose=0 if arguments.quiet or arguments.json else 1,
        )
    if not arguments.json:
        print()
        print_report(result.report)
        print(f"\nThe best is {result.best.name}. The files, best/ and report.html are in {Path(arguments.out)}")
    return {
        "best": str(result.best.file),
        "recipe": result.recipe and result.recipe.get_config(),
        "files": [str(path) for path in result.files],
        "report": result.report.to_dict(),
    }


def key_values(option: str, pairs: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` arguments as a dictionary, the values read as YAML."""
    found = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise InvalidArgument(f"`--{option}` must be KEY=VALUE, such as max_bytes=70000, received {pair!r}.")
        found[key] = yaml.safe_load(value)
    return found
