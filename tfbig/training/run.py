"""One training from its compilation to its last callback: placed, resumed, looped and checkpointed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfbig.training.checkpoint import Checkpoint, CheckpointFolder
from tfbig.training.compilation import Compilation
from tfbig.training.divergence import Guard
from tfbig.training.feed import Feed
from tfbig.training.kernels import fused, sound
from tfbig.training.loop import AfterStep, Loop, build
from tfbig.training.placement import beside, spread
from tfbig.training.precision import computed_in
from tfbig.training.recompute import recomputed
from tfbig.training.replicas import placed
from tfbig.training.state import Position, capture, remembered, remind, restore
from tfbig.training.strategy import is_chief


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, all arguments settled.

    Attributes:
        every: batches between checkpoints, on top of the one after each epoch.
        start: where to begin unless a checkpoint says otherwise.
        recompute: keep less of the forward pass.
        placement: devices by patterns of layer names.
    """

    feed: Feed
    compilation: Compilation
    callbacks: list[keras.callbacks.Callback]
    folder: CheckpointFolder | None
    every: int | None
    start: Position
    epochs: int
    validation_freq: int
    verbose: str | int
    recompute: bool = False
    placement: Mapping[str, str] | None = None

    def on(self, model: keras.Model, target: tf.distribute.Strategy, precision: str | None) -> Any:
        """Trains `model` on the devices of `target` in a precision, and returns its History."""
        alone = target is tf.distribute.get_strategy()
        where = spread(model, self.placement) if self.placement is not None else placed(model, target)
        with where as trained, recomputed(trained, self.recompute), computed_in(trained, precision):
            if trained is not model or precision is not None or not self.compilation.is_of(model):
                as_it_is = alone and trained is model
                with target.scope():
                    (self.compilation if as_it_is else self.compilation.fresh()).apply(trained)
            if self.placement is not None:
                beside(trained.optimizer)
            history = self._train(trained)
        if trained is not model:
            self.compilation.apply(model)
            history.set_model(model)
            model.history = history
        return history

    def _train(self, model: keras.Model) -> Any:
        build(model, self.feed)
        saved = self.folder.latest() if self.folder else None
        listed = self._callback_list(model)
        history = model.history
        model.stop_training = False
        listed.on_train_begin()
        start = self._resume(model, saved, history)
        guard = Guard(model)
        if start.batch:
            guard.remember(start.epoch)
        try_xla = self.compilation.jit_compile == "auto"
        loop = Loop(
            model,
            self.feed,
            listed,
            guard,
            self._writer(model, history, every=self.every),
            try_xla=try_xla,
            one_by_one=self.recompute,
        )
        if not model.stop_training:
            after = self._writer(model, history, every=1)
            with sound(model), fused(model):
                loop.run(start, self.epochs, validation_freq=self.validation_freq, after_epoch=after)
        model.optimizer.finalize_variable_values(model.trainable_weights)
        listed.on_train_end()
        return history

    def _resume(self, model: keras.Model, saved: Checkpoint | None, history: Any) -> Position:
        if saved is None:
            return self.start
        restore(model, saved.arrays, f"The checkpoint in `{self.folder.path}`")  # type: ignore[union-attr]
        remind(self.callbacks, saved.memories)
        history.history = {name: list(values) for name, values in saved.history.items()}
        history.epoch = list(range(self.start.epoch, saved.position.epoch))
        model.stop_training = saved.stopped
        return saved.position

    def _writer(self, model: keras.Model, history: Any, *, every: int | None) -> AfterStep | None:
        """Writes a checkpoint every so many batches; a position at the beginning of an epoch is always one."""
        folder = self.folder
        if folder is None or every is None:
            return None

        def write(position: Position, taken: int) -> None:
            if position.batch % every >= taken:
                return
            memories, arrays = remembered(self.callbacks), capture(model)  # On several machines all take part.
            if is_chief(model.distribute_strategy):
                folder.write(Checkpoint(position, arrays, history.history, memories, model.stop_training))

        return write

    def _callback_list(self, model: keras.Model) -> keras.callbacks.CallbackList:
        return keras.callbacks.CallbackList(
            # A model in compression brings callbacks of its own, as its `fit` does.
            [*self.callbacks, *getattr(model, "training_callbacks", list)()],
            add_history=True,
            add_progbar=self.verbose != 0,
            model=model,
            verbose=self.verbose,
            epochs=self.epochs,
            steps=self.feed.steps,
        )
