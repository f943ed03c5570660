"""Training at scale: `fit` with strategies, precisions, schedules and checkpoints, and each of these alone."""

from tfbig.training.fit import fit
from tfbig.training.launch import launch
from tfbig.training.losses import SmoothedSparseCategoricalCrossentropy
from tfbig.training.optimizer import optimizer
from tfbig.training.precision import precision
from tfbig.training.schedule import schedule
from tfbig.training.strategy import strategy

__all__ = ["SmoothedSparseCategoricalCrossentropy", "fit", "launch", "optimizer", "precision", "schedule", "strategy"]
