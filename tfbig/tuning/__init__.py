"""Search for the best recipe or the best hyperparameters under a budget, on KerasTuner."""

from tfbig.registry import Registry

registry = Registry(f"{__name__}.choices", "choice")
