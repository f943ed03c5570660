"""What TFMOT takes: each model of the zoo by TFMOT alone, and by engine='tfmot', which chooses layers for it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.zoo import ENTRIES, example_inputs, pack, randomise
from tfbig.compression import technique_from_config
from tfbig.compression.tfmot.bridge import to_tf_keras
from tfbig.compression.tfmot.toolkit import toolkit
from tfbig.errors import TfbigError
from tfbig.isolation import run_isolated, shut_down

_SAMPLES = 8


@dataclasses.dataclass(frozen=True)
class Taken:
    """What came of one technique on one model; a reason is empty where it went well."""

    model: str
    technique: str
    bridge: str  # why the model cannot be rebuilt in tf_keras
    alone: str = ""  # why TFMOT's own call on the whole model refused
    engine: str = ""  # why `Technique(engine="tfmot")` refused
    seconds: float | None = None  # of its `prepare`


def table(models: Sequence[str], techniques: Sequence[str], options: dict[str, dict[str, Any]]) -> list[Taken]:
    """Measures all and prints a table for each technique."""
    console, found = Console(width=180), []
    for model in models:
        for technique in techniques:
            try:
                asked = (model, technique, options[technique])
                found.append(run_isolated("benchmarks.coverage_tfmot:measure", *asked, worker="coverage"))
            except TfbigError as error:
                found.append(Taken(model, technique, "", engine=_first(error)))
            console.print(" ".join(_cells(found[-1], _verdicts(found[-1]))), technique, markup=False, highlight=False)
        if ENTRIES[model].kind == "application":
            shut_down()  # The child has grown by all that it built.
    for technique in techniques:
        console.print(_table(technique, [one for one in found if one.technique == technique]))
    return found


def measure(model_name: str, technique_name: str, options: dict[str, Any]) -> Taken:
    """Tries both on one model; runs in a child process."""
    entry = ENTRIES[model_name]
    keras.utils.set_random_seed(0)
    model = entry.build()
    inputs = example_inputs(model, entry.span, _SAMPLES)
    randomise(model, inputs)
    try:
        twin = to_tf_keras(model)
    except TfbigError as error:
        return Taken(model_name, technique_name, _first(error))
    alone = _reason(lambda: _ALONE[technique_name](twin, options))
    start = time.perf_counter()
    engine = _reason(lambda: _runs(model, technique_from_config(_config(technique_name, options)), inputs))
    return Taken(model_name, technique_name, "", alone, engine, time.perf_counter() - start)


def _config(name: str, options: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "engine": "tfmot", **options}


def _runs(model: keras.Model, technique: Any, inputs: list[np.ndarray]) -> None:
    prepared = technique.prepare(model)
    outputs = keras.tree.flatten(prepared(pack(model, inputs), training=True))
    if not all(np.all(np.isfinite(y)) for y in outputs):
        raise ValueError("The outputs are not finite.")


def _prune(model: Any, options: dict[str, Any]) -> Any:
    sparsity = toolkit().sparsity.keras
    return sparsity.prune_low_magnitude(model, sparsity.ConstantSparsity(options["sparsity"], 0))


def _cluster(model: Any, options: dict[str, Any]) -> Any:
    clustering = toolkit().clustering.keras
    return clustering.cluster_weights(
        model,
        number_of_clusters=options["clusters"],
        cluster_centroids_init=clustering.CentroidInitialization.KMEANS_PLUS_PLUS,
    )


def _quantize(model: Any, options: dict[str, Any]) -> Any:
    return toolkit().quantization.keras.quantize_model(model)


_ALONE: dict[str, Callable[[Any, dict[str, Any]], Any]] = {"prune": _prune, "cluster": _cluster, "quantize": _quantize}


def _reason(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:  # Whatever TFMOT raises is the answer.
        return _first(error)
    return ""


def _first(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _table(technique: str, rows: list[Taken]) -> Table:
    verdicts = [_verdicts(row) for row in rows]
    counts = [sum(column) for column in zip(*verdicts, strict=True)]
    title = f"{technique}: of {len(rows)}, {counts[0]} over the bridge, {counts[1]} by TFMOT alone, {counts[2]} by us"
    made = Table(title=title, title_justify="left")
    for name in ("model", "bridge", "TFMOT alone", "engine='tfmot'", "prepare s", "reason"):
        made.add_column(name)
    for row, verdict in zip(rows, verdicts, strict=True):
        made.add_row(*_cells(row, verdict))
    return made


def _verdicts(row: Taken) -> tuple[bool, bool, bool]:
    return not row.bridge, not (row.bridge or row.alone), not (row.bridge or row.engine)


def _cells(row: Taken, verdicts: tuple[bool, bool, bool]) -> list[str]:
    seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
    reason = row.bridge or row.engine or row.alone
    return [row.model, *("yes" if verdict else "no" for verdict in verdicts), seconds, reason]
