"""Tries every technique on every model of the zoo and prints what came of it.

python benchmarks/coverage.py [--technique prune|cluster|quantize] [--model NAME] [--kind KIND] [--json FILE]
python benchmarks/coverage.py --engine tfmot    # what TFMOT takes of the same models, for comparison
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from benchmarks.coverage_row import OPTIONS, Row  # noqa: E402
from benchmarks.zoo import ENTRIES  # noqa: E402
from tfbig.compression import names  # noqa: E402
from tfbig.errors import TfbigError, unknown  # noqa: E402
from tfbig.isolation import run_isolated, shut_down  # noqa: E402


@dataclasses.dataclass(frozen=True)
class Result:
    """A row that was measured, or the reason why it could not be."""

    model: str
    technique: str
    ok: bool
    reason: str = ""
    row: Row | None = None


def main() -> int:
    """Measures, prints each row when it is there, and returns 1 if any failed."""
    options = _parser().parse_args()
    models, techniques = _chosen(options)
    if options.engine == "tfmot":
        return _by_tfmot(models, techniques, options.json)
    table = Console(width=None if sys.stdout.isatty() else 180)
    results: list[Result] = []
    for model in models:
        for technique in techniques:
            results.append(_measured(model, technique, options.steps))
            table.print(_line(results[-1]), markup=False, highlight=False)
            if options.json:
                Path(options.json).write_text(json.dumps([dataclasses.asdict(r) for r in results], indent=1))
        if ENTRIES[model].kind == "application":
            shut_down()  # The child has grown by all that it built.
    for technique in techniques:
        table.print(_table(technique, [r for r in results if r.technique == technique]))
    failed = sum(not result.ok for result in results)
    table.print(f"{len(results) - failed} of {len(results)} rows hold.")
    return int(failed > 0)


def _by_tfmot(models: list[str], techniques: list[str], file: str | None) -> int:
    """The comparison is no test: what TFMOT refuses is a finding."""
    from benchmarks import coverage_tfmot

    found = coverage_tfmot.table(models, techniques, {name: _for_tfmot(name) for name in techniques})
    if file:
        Path(file).write_text(json.dumps([dataclasses.asdict(row) for row in found], indent=1))
    return 0


def _for_tfmot(technique: str) -> dict[str, Any]:
    return {name: value for name, value in OPTIONS[technique].items() if name != "dtype"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Tries every technique on every model of the zoo.")
    parser.add_argument("--technique", choices=sorted(OPTIONS), help="only this technique")
    parser.add_argument("--model", help="only models of this name or glob")
    parser.add_argument("--kind", choices=sorted({e.kind for e in ENTRIES.values()}), help="only models of this kind")
    parser.add_argument("--engine", choices=("native", "tfmot"), default="native", help="who does the work")
    parser.add_argument("--steps", type=int, default=1, help="training steps before the export")
    parser.add_argument("--json", help="write all figures to this file")
    return parser


def _chosen(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    models = [e.name for e in ENTRIES.values() if options.kind in (None, e.kind)]
    if options.model:
        models = [name for name in models if fnmatch.fnmatchcase(name, options.model)]
        if not models:
            raise SystemExit(str(unknown("model", options.model, ENTRIES)))
    techniques = [options.technique] if options.technique else [t for t in OPTIONS if t in names()]
    return models, techniques


def _measured(model: str, technique: str, steps: int) -> Result:
    try:
        row = run_isolated("benchmarks.coverage_row:measure", model, technique, steps, worker="coverage")
    except TfbigError as error:
        return Result(model, technique, False, str(error))
    return Result(model, technique, *_verdict(row), row)


def _verdict(row: Row) -> tuple[bool, str]:
    """Whether the row meets the bars that hold for every model, and which it misses."""
    missed = []
    if row.sparsity_error is not None and row.sparsity_error > 1:
        missed.append(f"a tensor is {row.sparsity_error} zeros off")
    if row.sparsity_in_file is not None and row.sparsity_in_file < OPTIONS["prune"]["sparsity"] - 0.01:
        missed.append(f"only {row.sparsity_in_file:.1%} zeros in the file")
    for where, count in (("the model", row.distinct), ("the file", row.distinct_in_file)):
        if count is not None and count > OPTIONS["cluster"]["clusters"]:
            missed.append(f"{count} values in {where}")
    return not missed, "; ".join(missed)


def _table(technique: str, results: list[Result]) -> Table:
    table = Table(title=technique, title_justify="left")
    for name in _COLUMNS[technique]:
        table.add_column(name, justify="left" if name in ("model", "float compute ops", "reason") else "right")
    for result in results:
        table.add_row(*_cells(result))
    return table


_COLUMNS = {
    "prune": ("model", "ok", "prepare s", "zeros off", "zeros in file", "file - Keras", "reason"),
    "cluster": ("model", "ok", "prepare s", "values", "values in file", "file - Keras", "reason"),
    "quantize": ("model", "ok", "prepare s", "steps", "logits", "argmax", "float compute ops", "reason"),
}


def _line(result: Result) -> str:
    return f"{result.technique:9} " + "  ".join(cell for cell in _cells(result) if cell)


def _cells(result: Result) -> list[str]:
    row = result.row
    if row is None:
        return [result.model, "FAILS", *[""] * (len(_COLUMNS[result.technique]) - 3), result.reason.splitlines()[0]]
    start = [result.model, "yes" if result.ok else "NO", f"{row.prepare_seconds:.1f}"]
    difference = f"{row.parity.steps_max / 255:.1e}"
    if result.technique == "prune":
        return [*start, str(row.sparsity_error), _percent(row.sparsity_in_file), difference, result.reason]
    if result.technique == "cluster":
        return [*start, str(row.distinct), str(row.distinct_in_file), difference, result.reason]
    seen = row.parity
    return [
        *start,
        _pair(seen.steps_max, seen.steps_mean),
        _pair(seen.logits_max, seen.logits_mean),
        _percent(seen.argmax),
        _counts(row.float_compute),
        "; ".join([result.reason, *row.reasons]).strip("; "),
    ]


def _pair(largest: float | None, mean: float | None) -> str:
    return "" if largest is None or mean is None else f"{largest:.1f} / {mean:.2f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


if __name__ == "__main__":
    sys.exit(main())
