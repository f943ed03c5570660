"""`tfbig debug`: a Keras model and its LiteRT file, layer by layer."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from tfbig.cli import options
from tfbig.errors import InvalidArgument
from tfbig.files import atomic_file, refuse_existing

HELP = "compare a model with its LiteRT file layer by layer, and rank the layers by what rounding them costs"
EXAMPLE = "tfbig debug my_model.keras my_model.tflite --data images:photos/ --recipe-out exempt.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_model(parser)
    parser.add_argument("file", metavar="FILE", help="the .tflite file that was exported from it")
    options.add_data(parser, required=False)
    parser.add_argument("--samples", type=int, default=16, metavar="N", help="inputs to run (default 16)")
    parser.add_argument("--quantize", metavar="SCHEME", help="rank the layers for this scheme (default: the file's)")
    parser.add_argument("--recipe-out", metavar="FILE", help="write the recipe that exempts the worst layers, as .yaml")
    parser.add_argument("--report", metavar="DIR", help="put the ranking into the report of this results folder")
    options.add_overwrite(parser)
    options.add_output(parser)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    recipe_file = Path(arguments.recipe_out) if arguments.recipe_out else None
    if recipe_file is not None:
        refuse_existing(recipe_file, arguments.overwrite)
        if recipe_file.suffix not in (".yaml", ".yml", ".json"):
            raise InvalidArgument(f"`--recipe-out` must be a .yaml or .json file, received '{recipe_file}'.")
    import tfbig

    model = tfbig.load(arguments.model, unsafe=arguments.unsafe)
    data = options.load_data(arguments, model) if arguments.data else None
    diagnosis = tfbig.debug(model, arguments.file, data, samples=arguments.samples, quantize=arguments.quantize)
    if not (arguments.json or arguments.quiet):
        print(diagnosis)
    if recipe_file is not None:
        _write(diagnosis, recipe_file, arguments)
    if arguments.report:
        _into_report(diagnosis, Path(arguments.report), Path(arguments.file))
    return diagnosis.to_dict()


def _into_report(diagnosis: Any, folder: Path, file: Path) -> None:
    """Adds the ranking to the report in `folder` and writes its pages anew."""
    from tfbig.report.pages import write_pages
    from tfbig.report.report import Report

    report = Report.load(folder / "report.json")
    inside = file.resolve().is_relative_to(folder.resolve())
    name = str(file.resolve().relative_to(folder.resolve()) if inside else file)
    ranked = [{"layer": s.layer, "snr_db": s.snr_db, "share": s.share} for s in diagnosis.sensitivity]
    report = dataclasses.replace(report, sensitivity={**report.sensitivity, name: ranked})
    report.save(folder / "report.json")
    write_pages(report, folder)


def _write(diagnosis: Any, path: Path, arguments: argparse.Namespace) -> None:
    if diagnosis.recipe is None:
        raise InvalidArgument("`--recipe-out`: no layer is to be exempted, so there is no recipe. Leave it out.")
    with atomic_file(path) as partial:
        partial.write_text(diagnosis.recipe.to_json() if path.suffix == ".json" else diagnosis.recipe.to_yaml())
    if not (arguments.json or arguments.quiet):
        data = f" --data {arguments.data}" if arguments.data else " --data SPEC"
        print(f"Wrote {path}. Run it: tfbig compress {arguments.model}{data} --recipe {path} --out DIR")
