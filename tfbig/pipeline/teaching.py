"""The answers of a stage's teacher, kept so that later epochs and stages need not ask again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfbig.compression.distillation.cache import numbers_per_sample, with_knowledge
from tfbig.compression.technique import Technique
from tfbig.compression.techniques.distill import Distill
from tfbig.errors import InvalidData


def with_answers(techniques: Sequence[Technique], train: tf.data.Dataset, folder: Path) -> tf.data.Dataset:
    """`train` with what the teacher of a stage says about each sample; as it is where that is not worth keeping.

    Args:
        folder: where the answers are kept, by teacher.
    """
    for technique in techniques:
        if isinstance(technique, Distill):
            teacher = technique.asked()
            if _worth_keeping(train, teacher.shapes()):
                return with_knowledge(train, teacher, folder / teacher.digest(), warn=False)
    return train


def _worth_keeping(train: tf.data.Dataset, shapes: dict[str, Any]) -> bool:
    """Whether there is an end to the samples, and the answers are no larger than the samples themselves."""
    if int(train.cardinality()) <= 0 or tf.distribute.has_strategy():
        return False
    sizes = [math.prod(d or 1 for d in spec.shape[1:]) for spec in keras.tree.flatten(train.element_spec[0])]
    try:
        return numbers_per_sample(shapes) <= sum(sizes)
    except InvalidData:  # sequences of any length
        return False
