"""What a measurement depends on besides the file: versions, processor, seed."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

_PACKAGES = (
    *("tensorflow", "keras", "tf_keras", "tensorflow-model-optimization", "ai-edge-litert"),
    *("ai-edge-quantizer", "keras-tuner", "numpy"),
)


def environment(*, seed: int | None = None) -> dict[str, Any]:
    """The versions of what was used, the processor and the seed; nothing is imported for it."""
    import tfbig

    return {
        "tfbig": tfbig.__version__,
        "python": platform.python_version(),
        **{name: version for name in _PACKAGES if (version := _version(name))},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "seed": seed,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name; Linux tells it in /proc only."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
