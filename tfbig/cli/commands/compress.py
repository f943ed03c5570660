"""`tfbig compress`: a model file and data in, a folder with the smaller files and their proof out."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from tfbig.cli import options
from tfbig.cli.terminal import show_result, verbosity
from tfbig.errors import OutputExists
from tfbig.files import refuse_existing

HELP = "compress a model with a recipe, and measure every file that comes out"
EXAMPLE = "tfbig compress my_model.keras --data images:photos/ --recipe small --out saved_models/my_model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    options.add_data(parser)
    parser.add_argument("--recipe", required=True, metavar="RECIPE", help="a recipe's name, or a .yaml or .json file")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the result")
    parser.add_argument("--saved-model", action="store_true", help="write a SavedModel folder too")
    options.add_training(parser, epochs=3)
    parser.add_argument(
        "--metric",
        metavar="NAME",
        help="quality in the table: accuracy, top5_accuracy, f1, mae, mse or rmse (default: by the labels)",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with a run that was killed; keep its stages on Ctrl-C"
    )
    options.add_overwrite(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    out, work = Path(arguments.out), Path(f"{Path(arguments.out)}.partial")
    _check_outputs(out, work, arguments)
    import tfbig
    from tfbig.pipeline.result import StageFailed
    from tfbig.training.losses import check_loss

    check_loss(arguments.loss)
    recipe = tfbig.Recipe.load(arguments.recipe)
    model = tfbig.load(arguments.model, unsafe=arguments.unsafe)
    data = options.load_data(arguments, model)
    tfbig.data.check_fits(model, data)
    if not arguments.resume:
        shutil.rmtree(work, ignore_errors=True)
    try:
        result = _compressed(model, recipe, data, work, arguments)
    except StageFailed as failure:
        if failure.result is None:
            raise
        _save(failure.result, out, work, arguments)
        raise StageFailed(f"{failure}\nThe result of the stages before it is in {out}") from failure
    _save(result, out, work, arguments)
    return show_result(out, arguments)


def _save(result: Any, out: Path, work: Path, arguments: argparse.Namespace) -> None:
    try:
        result.save(out, saved_model=arguments.saved_model, overwrite=arguments.overwrite)
    except Exception:
        _tell_where(work)
        raise


def _compressed(model: Any, recipe: Any, data: Any, work: Path, arguments: argparse.Namespace) -> Any:
    import tfbig
    from tfbig.exporters.associated_files import read_associated_files

    try:
        return tfbig.compress(
            model,
            recipe,
            train=data.train,
            validation=data.validation,
            test=data.test,
            epochs=arguments.epochs,
            optimizer=arguments.optimizer,
            learning_rate=arguments.learning_rate,
            loss=arguments.loss,
            metric=arguments.metric,
            associated_files=read_associated_files(arguments.model),
            seed=arguments.seed,
            directory=work,
            resume=arguments.resume,
            verbose=verbosity(arguments),
        )
    except KeyboardInterrupt:
        if arguments.resume:
            _tell_where(work)
        else:
            shutil.rmtree(work, ignore_errors=True)
        raise


def _tell_where(work: Path) -> None:
    print(f"tfbig: the finished stages are in {work}; --resume goes on from there.", file=sys.stderr)


def _check_outputs(out: Path, work: Path, arguments: argparse.Namespace) -> None:
    refuse_existing(out, arguments.overwrite)
    if work.exists() and not (arguments.resume or arguments.overwrite):
        raise OutputExists(
            f"`{work}` holds the finished stages of a run that was killed. Go on from there with --resume, or start "
            "again with --overwrite."
        )
