"""A registry is a folder: each file in it is one variant, found by its file name and imported when used."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from tfbig.errors import unknown


class Registry:
    """The modules of one package, by name.

    Args:
        package: dotted name of the package whose files are the variants.
        kind: what a variant is called in error messages, e.g. "data source".
    """

    def __init__(self, package: str, kind: str):
        self.package, self.kind = package, kind

    def names(self) -> list[str]:
        """The names of all variants, sorted; nothing is imported but the package itself."""
        path = importlib.import_module(self.package).__path__
        return sorted(m.name for m in pkgutil.iter_modules(path) if not m.name.startswith("_"))

    def __contains__(self, name: object) -> bool:
        return name in self.names()

    def __getitem__(self, name: str) -> ModuleType:
        """Imports and returns the module of one variant.

        Raises:
            InvalidArgument: no such variant; the message names the nearest one.
        """
        if name not in self:
            raise unknown(self.kind, name, self.names())
        return importlib.import_module(f"{self.package}.{name}")
