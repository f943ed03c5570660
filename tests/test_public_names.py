"""The public names are exactly those of the design, each can be imported, and importing tfbig costs nothing."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import tfbig

EXPECTED = {
    *("load", "migrate", "compress", "export", "measure", "inspect", "debug", "PostTraining", "search", "tune"),
    *("Prune", "PruneBlocks", "PruneChannels", "Cluster", "LowRank", "Preserve", "Quantize", "Distill", "Distiller"),
    *("Recipe", "Result"),
    *("data", "models", "training", "compression", "errors", "__version__"),
}


def test_all_is_exact():
    assert set(tfbig.__all__) == EXPECTED and len(tfbig.__all__) == len(EXPECTED)
    assert set(dir(tfbig)) >= EXPECTED


@pytest.mark.parametrize("name", sorted(EXPECTED - {"__version__"}))
def test_each_name_is_there_and_documented(name):
    value = getattr(tfbig, name)
    assert value.__doc__
    assert getattr(value, "__module__", "tfbig.").startswith("tfbig.")


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="module 'tfbig' has no attribute 'Prun'"):
        _ = tfbig.Prun


def test_stages_have_what_the_design_promises():
    assert callable(tfbig.data.load) and callable(tfbig.models.build) and callable(tfbig.models.names)
    assert callable(tfbig.training.fit) and callable(tfbig.training.strategy) and callable(tfbig.training.precision)


def test_import_brings_nothing_heavy_and_takes_no_time():
    script = (
        "import sys, json, time; start = time.perf_counter(); import tfbig, tfbig.cli.main; "
        "tfbig.cli.main.build_parser(); "
        "seconds = time.perf_counter() - start; "
        "print(json.dumps([seconds, [m for m in ('tensorflow', 'keras', 'numpy') if m in sys.modules]]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, heavy = json.loads(done.stdout)
    assert heavy == []
    assert seconds < 0.5
