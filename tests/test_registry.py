"""A registry is its folder: every file is found, none is imported before it is used, wrong names are helped."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import tfbig
from tfbig.errors import InvalidArgument
from tfbig.registry import Registry


def all_registries() -> list[Registry]:
    """Every `Registry` that stands in a module of tfbig."""
    root = Path(tfbig.__file__).parent
    sources = [p for p in root.rglob("*.py") if re.search(r"^\w+ = Registry\(", p.read_text(), re.MULTILINE)]
    found = []
    for source in sources:
        parts = source.relative_to(root.parent).with_suffix("").parts
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
        found += [value for value in vars(module).values() if isinstance(value, Registry)]
    return list({registry.package: registry for registry in found}.values())


REGISTRIES = all_registries()


def test_the_registries_are_found():
    packages = {registry.package for registry in REGISTRIES}
    assert packages >= {
        *("tfbig.data.sources", "tfbig.models.builders", "tfbig.compression.techniques"),
        *("tfbig.exporters.formats", "tfbig.cli.commands"),
    }


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.package)
def test_names_are_the_files_and_each_can_be_imported(registry):
    folder = Path(importlib.import_module(registry.package).__file__).parent
    assert registry.names() == sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))
    for name in registry.names():
        assert name in registry
        assert registry[name].__name__ == f"{registry.package}.{name}"
        assert registry[name].__doc__


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.package)
def test_wrong_name_is_answered_with_the_nearest(registry):
    name = max(registry.names(), key=len)
    with pytest.raises(InvalidArgument, match=f"Unknown {registry.kind} '{name}x'.*Did you mean '{name}'?"):
        registry[f"{name}x"]


def test_every_folder_is_a_documented_package():
    for module in pkgutil.walk_packages(tfbig.__path__, "tfbig."):
        if module.ispkg:
            assert importlib.import_module(module.name).__doc__, module.name
