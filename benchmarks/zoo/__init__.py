"""The zoo: models of every kind that a Keras user writes, and all of `keras.applications`."""

from benchmarks.zoo import applications, attention, convolutional, dense, recurrent, structure
from benchmarks.zoo.registry import (
    ENTRIES,
    Entry,
    example_inputs,
    example_targets,
    pack,
    randomise,
)

__all__ = [
    "ENTRIES",
    "Entry",
    "applications",
    "attention",
    "convolutional",
    "dense",
    "example_inputs",
    "example_targets",
    "pack",
    "randomise",
    "recurrent",
    "structure",
]
