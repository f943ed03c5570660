"""The share of the FLOPs that is left without some of the residual blocks."""

from __future__ import annotations

import keras

from tfbig.compression.techniques.prune_blocks import PruneBlocks
from tfbig.tuning.choice import Choice


class Blocks(Choice):
    place = 0
    values = (1.0, 0.75, 0.5)
    technique = PruneBlocks
    option = "flops"
    may_fail = True

    def harm(self, value: float) -> float:
        return 2.5 * (1 - value)

    def check_model(self, model: keras.Model) -> None:
        PruneBlocks(flops=max(self.values[1:])).check_model(model)


choice = Blocks()
