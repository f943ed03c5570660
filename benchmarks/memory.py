"""The peak memory of this process."""

from __future__ import annotations

import re
from pathlib import Path


def peak_mib() -> float:
    """The most that the process has held so far.

    From /proc: what getrusage tells begins with the peak of the parent, which a child takes over when it starts.
    """
    return int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024
