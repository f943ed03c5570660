"""Rebuilds every model of the zoo in tf_keras, as engine='tfmot' does, and prints how far the outputs are apart.

python benchmarks/bridge.py [--model GLOB] [--kind KIND] [--json FILE]
"""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.zoo import ENTRIES, example_inputs, pack, randomise  # noqa: E402
from tfbig.errors import TfbigError  # noqa: E402
from tfbig.isolation import run_isolated, shut_down  # noqa: E402

_BAR = 1e-5  # of the largest output
_SAMPLES = 4


@dataclasses.dataclass(frozen=True)
class Row:
    """One model on both sides of the bridge."""

    model: str
    parameters: int
    difference: float  # the largest between the outputs, of the largest output
    seconds: float


def main() -> int:
    """Measures, prints each row when it is there, and returns 1 if any misses the bar."""
    parser = argparse.ArgumentParser(description="How far outputs are apart on the two sides of the bridge.")
    parser.add_argument("--model", default="*", help="only models of this name or glob")
    parser.add_argument("--kind", choices=sorted({e.kind for e in ENTRIES.values()}), help="only models of this kind")
    parser.add_argument("--json", help="write all figures to this file")
    options = parser.parse_args()
    chosen = [
        e for e in ENTRIES.values() if options.kind in (None, e.kind) and fnmatch.fnmatchcase(e.name, options.model)
    ]
    results: list[dict[str, Any]] = []
    for entry in chosen:
        results.append(_measured(entry.name))
        print("  ".join(str(value) for value in results[-1].values()), flush=True)
        if options.json:
            Path(options.json).write_text(json.dumps(results, indent=1))
        if entry.kind == "application":
            shut_down()  # The child has grown by all that it built.
    held = sum(result.get("difference", 1) <= _BAR for result in results)
    print(f"{held} of {len(results)} within {_BAR:g}.")
    return int(held < len(results))


def _measured(name: str) -> dict[str, Any]:
    try:
        return dataclasses.asdict(run_isolated("benchmarks.bridge:measure", name, worker="bridge"))
    except TfbigError as error:
        return {"model": name, "reason": str(error).splitlines()[0]}


def measure(name: str) -> Row:
    """Builds one model with random weights and statistics, and its counterpart, and runs both."""
    import keras
    import numpy as np

    from tfbig.compression.tfmot.bridge import to_tf_keras

    entry = ENTRIES[name]
    keras.utils.set_random_seed(0)
    model = entry.build()
    inputs = example_inputs(model, entry.span, _SAMPLES)
    randomise(model, inputs)
    start = time.perf_counter()
    twin = to_tf_keras(model)
    seconds = time.perf_counter() - start
    expected = [np.asarray(y, "float64") for y in keras.tree.flatten(model(pack(model, inputs), training=False))]
    received = [np.asarray(y, "float64") for y in keras.tree.flatten(twin(inputs, training=False))]
    difference = max(np.abs(r - e).max() / np.abs(e).max() for e, r in zip(expected, received, strict=True))
    return Row(name, model.count_params(), float(difference), round(seconds, 1))


if __name__ == "__main__":
    sys.exit(main())
