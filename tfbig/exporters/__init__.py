"""Writes models to files: one file per format in `formats`, LiteRT quantization beside it."""

from tfbig.registry import Registry

registry = Registry(f"{__name__}.formats", "export format")
