"""Optional packages: there, or an error with the line that installs them."""

from __future__ import annotations

import importlib.util

from tfbig.errors import MissingPackage


def require(what: str, extra: str, *packages: str) -> None:
    """Raises `MissingPackage` unless all packages are installed.

    Args:
        what: that needs them, as the error begins: "ONNX export".
        extra: of tfbig, which brings them.
    """
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise MissingPackage(f'{what} needs {" and ".join(missing)}. Install: pip install "tfbig[{extra}]"')
