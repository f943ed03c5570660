"""`tfbig search`: what the device allows in, the best recipe and the front of measured files out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tfbig.cli import options
from tfbig.tuning import registry

HELP = "search for the best recipe under a budget of bytes, latency or quality"
EXAMPLE = "tfbig search my_model.keras --data images:photos/ --budget max_bytes=70000 max_drop=0.01 --out searched"
WATCHED = True  # It runs in processes of its own, so that a trial which takes one down is one failed trial.


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    options.add_data(parser)
    parser.add_argument(
        "--budget",
        nargs="+",
        action="extend",
        default=[],
        metavar="LIMIT=NUMBER",
        help="max_bytes, max_gzip_bytes, max_latency_ms, max_macs, max_drop (0.01 is one point) or min_quality",
    )
    parser.add_argument(
        "--objective",
        default="quality",
        metavar="NAME",
        help="quality (default), bytes, gzip_bytes, latency_ms or macs",
    )
    options.add_search(
        parser,
        trials="recipes to train at most",
        space=f"choices in place of the usual ones of {', '.join(registry.names())}, distill and exempt, "
        'such as "bits=[int8, int4]" or distill=true',
    )
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that train (default 1)")
    options.add_training(parser, epochs=3)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    budget = options.key_values("budget", arguments.budget, example="max_bytes=70000")
    settings = options.search_settings(arguments)
    import tfbig
    from tfbig.training.losses import check_loss
    from tfbig.tuning.budget import Budget
    from tfbig.tuning.workers import WORKER, role

    Budget.of(budget).check_objective(arguments.objective)
    check_loss(arguments.loss)
    model = tfbig.load(arguments.model, unsafe=arguments.unsafe)
    result = tfbig.search(
        model,
        options.load_data(arguments, model),
        budget=budget,
        objective=arguments.objective,
        optimizer=arguments.optimizer,
        learning_rate=arguments.learning_rate,
        **settings,
    )
    if not arguments.json and role() != WORKER:
        _show(result, Path(arguments.out))
    return {
        "best": str(result.best.file),
        "recipe": result.recipe and result.recipe.get_config(),
        "files": [str(path) for path in result.files],
        "report": result.report.to_dict(),
    }


def _show(result: Any, out: Path) -> None:
    from tfbig.report.table import print_report

    print()
    print_report(result.report)
    print(f"\nThe best is {result.best.name}. The files, best/ and report.html are in {out}")
