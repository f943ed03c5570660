"""tfbig: any Keras model in, the smallest and fastest deployable file out, and the proof beside it.

Nothing heavy is imported here: each public name loads its part of the suite when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME_OF = {
    "load": "tfbig.models.load",
    "migrate": "tfbig.compression.tfmot.migrate",
    "Prune": "tfbig.compression.techniques.prune",
    "PruneBlocks": "tfbig.compression.techniques.prune_blocks",
    "PruneChannels": "tfbig.compression.techniques.prune_channels",
    "Cluster": "tfbig.compression.techniques.cluster",
    "LowRank": "tfbig.compression.techniques.low_rank",
    "Preserve": "tfbig.compression.techniques.preserve",
    "Quantize": "tfbig.compression.techniques.quantize",
    "Distill": "tfbig.compression.techniques.distill",
    "Distiller": "tfbig.compression.techniques.distill",
    "Recipe": "tfbig.compression.recipe",
    "compress": "tfbig.pipeline.compress",
    "Result": "tfbig.pipeline.result",
    "export": "tfbig.exporters.export",
    "PostTraining": "tfbig.exporters.post_training",
    "measure": "tfbig.measurement.measure",
    "inspect": "tfbig.measurement.inspect",
    "debug": "tfbig.measurement.debug",
    "search": "tfbig.tuning.search",
    "tune": "tfbig.tuning.tune",
}
_STAGES = ("data", "models", "training", "compression", "errors")

__all__ = ["__version__", *_HOME_OF, *_STAGES]


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    elif name in _STAGES:
        value = importlib.import_module(f"tfbig.{name}")
    else:
        raise AttributeError(f"module 'tfbig' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from tfbig import compression as compression
    from tfbig import data as data
    from tfbig import errors as errors
    from tfbig import models as models
    from tfbig import training as training
