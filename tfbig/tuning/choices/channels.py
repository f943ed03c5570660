"""The share of the FLOPs that channel pruning keeps."""

from __future__ import annotations

import keras

from tfbig.compression.techniques.prune_channels import PruneChannels
from tfbig.tuning.choice import Choice


class Channels(Choice):
    place = 1
    values = (1.0, 0.75, 0.5, 0.4, 0.25)
    technique = PruneChannels
    option = "flops"
    may_fail = True

    def harm(self, value: float) -> float:
        return 2 * (1 - value)

    def check_model(self, model: keras.Model) -> None:
        PruneChannels(flops=0.9).plan(model)


choice = Channels()
