"""The callback of TFMOT's pruning, for `fit` of tf_keras and of Keras 3."""

from __future__ import annotations

from typing import Any

import keras

from tfbig.compression.tfmot.bridged import bridged_layer
from tfbig.compression.tfmot.toolkit import is_tf_keras, toolkit
from tfbig.errors import InvalidArgument


class PruningStep(keras.callbacks.Callback):
    """Tells TFMOT's pruning wrappers how long the training is, and does what TFMOT's `UpdatePruningStep` does.

    It works in `fit` of Keras 3 and of tf_keras, and does nothing for models without such wrappers.
    """

    _supports_tf_logs = True  # It looks at no logs, so tf_keras need not fetch them.
    _chief_worker_only = False

    def __init__(self) -> None:
        super().__init__()
        self.update: Any = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        layer = bridged_layer(self.model)
        inner = self.model if is_tf_keras(self.model) else getattr(layer, "inner", None)
        self.update = None
        if inner is not None:
            self._schedule(inner)
            self.update = toolkit().sparsity.keras.UpdatePruningStep()
            self.update.set_model(inner)
            self.update.on_train_begin()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.update is not None:
            with self.model.distribute_strategy.scope():
                self.update.on_epoch_end(epoch)

    def _schedule(self, model: Any) -> None:
        from tfbig.compression.tfmot.wrappers.prune import ShareOfTraining, wrappers

        for wrapper in wrappers(model):
            if isinstance(wrapper.pruning_schedule, ShareOfTraining):
                wrapper.pruning_schedule = wrapper.pruning_schedule.resolved(self._steps())
                wrapper.pruning_obj._pruning_schedule = wrapper.pruning_schedule

    def _steps(self) -> int:
        steps, epochs = self.params.get("steps"), self.params.get("epochs")
        if not steps or not epochs:
            raise InvalidArgument(
                "`begin` and `end` of Prune are shares of the training, but `fit` does not know how many batches an "
                "epoch has. Give them as steps (ints), or give fit `steps_per_epoch`."
            )
        return int(steps) * int(epochs)

    # What `fit` of tf_keras asks of its own callbacks.
    def _implements_train_batch_hooks(self) -> bool:
        return False

    _implements_test_batch_hooks = _implements_predict_batch_hooks = _implements_train_batch_hooks
