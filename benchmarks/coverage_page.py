"""Turns what `coverage.py --json` wrote into the page of the documentation.

python benchmarks/coverage_page.py FILE.json ... [--trained TABLE.md] [--channels FILE.json ...] > docs/coverage.md

`--trained` is what `trained.py` printed, `--channels` what `structure_coverage.py --json` wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

HEAD = """# What the techniques take

Written by `benchmarks/coverage.py` and `benchmarks/coverage_page.py`; nothing here is declared, all of it was
measured. Each model has random weights (with statistics of BatchNormalization that suit them), and goes the whole
way: prepare, a step of training, save, load, finish, LiteRT file, comparison on 64 inputs.

- **zeros off**: `Prune(sparsity=0.8)`; the tensor farthest from the number of zeros that was asked, in weights. **in
  the file**: the share of zeros in the LiteRT file.
- **values**: `Cluster(clusters=16)`; distinct values in a tensor of the model, and in an output channel of the file.
- **steps**: `Quantize("int8")`; largest and mean difference between Keras and the file, in quantization steps of the
  output, or of the logits where a softmax ends the model: it blows up single steps. **same class**: share of inputs
  with the same largest output, among those that Keras decides by more than a step.
- **float ops**: operations of the integer file that compute in float: a choice, which `tfbig inspect` gives the
  reason of.

What is empty was not measured; of the models of `keras.applications` those that are missing were not.
"""
BAR = "at most 3 steps, 0.5 on average, and the same class for 98 % of the inputs"
EXACT = """
## The integers of the file

At inference a model that was prepared with `Quantize("int8")` computes what LiteRT's default kernels (XNNPACK) compute,
integer for integer: sums, their requantization, additions, products, means, LeakyReLU, hard-swish, and the change of
scale before a concatenation. {exact} of {count} models give the same output for all inputs, to the last bit.
LiteRT's own plain kernels, without XNNPACK, round in another way, and differ from both.
"""
BEYOND = """
Where one value becomes another integer all the same, random weights do not let the difference die out; what
normalizes in float, or is recurrent, stays float in the file, and its last bits differ. The bar, which is meant for
trained networks, is {bar}. Beyond it: {names}.
"""
TRAINED = """
## Trained networks

The same for networks that somebody trained, on photos (`benchmarks/trained.py`). **same class**: among those that Keras
decides by more than a step; **as before**: the quantized model beside the float one, after 16 steps of training.
"""
CHANNELS = """
## Channels

`PruneChannels(flops=0.5)` on every model of `keras.applications`, with the smallest input that each allows
(`benchmarks/structure_coverage.py`): the FLOPs come to half within 5 %, and the outputs are those of the original
with the same channels masked, to 1e-4 of the largest, for {held} of {count} models. The deepest of these random
networks let the rounding errors of float32 grow, so that they were compared in float64: {wide}.

| model | MFLOPs | share that is left | parameters left | seconds | difference |
|---|---|---|---|---|---|"""
COLUMNS = ("model", "zeros off", "in the file", "values", "steps, max / mean", "same class", "float ops")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--trained", type=Path)
    parser.add_argument("--channels", type=Path, nargs="*", default=[], help="files in float64 behind those in float32")
    options = parser.parse_args()
    rows = [row for file in options.files for row in json.loads(file.read_text())]
    results = list({(row["model"], row["technique"]): row for row in rows}.values())  # The last file counts.
    by_model: dict[str, dict[str, Any]] = {}
    for result in results:
        by_model.setdefault(result["model"], {})[result["technique"]] = result
    print(HEAD)
    for technique in ("prune", "cluster", "quantize"):
        holds = [r["ok"] for r in results if r["technique"] == technique]
        print(f"- `{technique}`: {sum(holds)} of {len(holds)} models.")
    quantized = [r for r in results if r["technique"] == "quantize" and r["row"]]
    beyond = [r["model"] for r in quantized if not is_near(r["row"]["parity"])]
    print(f"- {len(quantized) - len(beyond)} of {len(quantized)} quantized models: {BAR}.")
    print(f"\n| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for model, found in by_model.items():
        print(f"| {' | '.join([model, *cells(found)])} |")
    exact = sum(steps_of(r["row"]["parity"])[0] < 0.01 for r in quantized)
    print(EXACT.format(exact=exact, count=len(quantized)), end="")
    if beyond:
        print(BEYOND.format(bar=BAR, names=", ".join(beyond)), end="")
    failures = [r for r in results if not r["ok"]]
    if failures:
        print("\n## What does not hold\n")
    for result in failures:
        print(f"- {result['model']}, {result['technique']}: {result['reason'].splitlines()[0]}")
    if options.trained:
        table = [line for line in options.trained.read_text().splitlines() if line.startswith("|")]
        print("\n".join([TRAINED, *table]))
    if options.channels:
        print_channels([json.loads(file.read_text()) for file in options.channels])


def print_channels(runs: list[list[dict[str, Any]]]) -> None:
    """The table of channel pruning; of a model in several runs the last one counts."""
    rows = {row["model"]: row for run in runs for row in run}
    wide = sorted({row["model"] for run in runs[1:] for row in run if row.get("floatx") == "float64"})
    held = sum(row["holds"] for row in rows.values())
    print(CHANNELS.format(held=held, count=len(rows), wide=", ".join(wide)))
    for name, row in sorted(rows.items()):
        shares = f"{row['flops_share']:.4f} | {row['params_share']:.3f}"
        print(f"| {name} | {row['mflops']:,.1f} | {shares} | {row['prepare_s']:.1f} | {row['error']:.1e} |")


def cells(found: dict[str, Any]) -> list[str]:
    """The figures of one model; empty where a technique was not tried or failed."""
    rows = {name: (found.get(name) or {}).get("row") for name in ("prune", "cluster", "quantize")}
    pruned, clustered, quantized = rows["prune"], rows["cluster"], rows["quantize"]
    return [
        *([str(pruned["sparsity_error"]), f"{pruned['sparsity_in_file']:.1%}"] if pruned else ["", ""]),
        f"{clustered['distinct']}, {clustered['distinct_in_file']}" if clustered else "",
        *(_quantized(quantized) if quantized else ["", "", ""]),
    ]


def is_near(parity: dict[str, Any]) -> bool:
    """Whether Keras and the integer file are as near to each other as they should be."""
    largest, mean = steps_of(parity)
    return largest <= 3.01 and mean <= 0.5 and (parity["decided"] is None or parity["decided"] >= 0.98)


def steps_of(parity: dict[str, Any]) -> tuple[float, float]:
    """Largest and mean difference at the outputs, or at the logits where a softmax comes after them."""
    at = "logits" if parity["logits_max"] is not None else "steps"
    return parity[f"{at}_max"], parity[f"{at}_mean"]


def _quantized(row: dict[str, Any]) -> list[str]:
    parity = row["parity"]
    largest, mean = steps_of(parity)
    decided = "" if parity["decided"] is None else f"{parity['decided']:.0%}"
    floats = ", ".join(f"{count} {kind}" for kind, count in row["float_compute"].items())
    return [f"{largest:.1f} / {mean:.2f}", decided, floats]


if __name__ == "__main__":
    main()
