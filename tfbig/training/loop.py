"""The epochs of `fit`: Keras's training step, callbacks and progress bar, from any batch of any epoch on."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from tfbig.training.accumulation import Cycle, cycle
from tfbig.training.divergence import Guard
from tfbig.training.feed import Feed
from tfbig.training.state import Position
from tfbig.training.xla import Trial

AfterStep = Callable[[Position, int], None]


def build(model: keras.Model, feed: Feed) -> None:
    """Makes all variables of training, from shapes alone: no batch is read, on one device or on many.

    Keras's own `fit` reads a batch for this, which moves the shuffling on, and which fails on several machines.
    """
    with model.distribute_strategy.scope():
        model._symbolic_build(data_batch=feed.train.element_spec)


class Loop:
    """Trains a compiled and built model.

    Args:
        callbacks: with History and the progress bar, their model set.
        guard: watches the loss.
        after_step: called after each step with the new position and the batches of the step, e.g. to checkpoint.
        one_by_one: never take several accumulated batches at a time: less memory.
        try_xla: whether to find out if XLA is faster; on one device, where the data says how long the training is.
    """

    def __init__(
        self,
        model: keras.Model,
        feed: Feed,
        callbacks: keras.callbacks.CallbackList,
        guard: Guard,
        after_step: AfterStep | None = None,
        try_xla: bool = False,
        one_by_one: bool = False,
    ):
        self.model, self.feed, self.callbacks = model, feed, callbacks
        self.guard, self.after_step = guard, after_step
        self.strategy, self.try_xla, self.steps = model.distribute_strategy, try_xla, 0
        self.one_by_one = one_by_one or try_xla or several_machines(self.strategy)
        self.validation = None if feed.validation is None else self._distributed(feed.validation)

    def run(
        self, start: Position, epochs: int, *, validation_freq: int = 1, after_epoch: AfterStep | None = None
    ) -> None:
        """Trains from `start` to the end of epoch `epochs`, unless a callback stops it."""
        with _without_false_alarm():
            self._run(start, epochs, validation_freq, after_epoch)

    def _run(self, start: Position, epochs: int, validation_freq: int, after_epoch: AfterStep | None) -> None:
        model, self.steps = self.model, (self.feed.steps or 0) * epochs
        iterator = self._first_iterator(start)
        for epoch in range(start.epoch, epochs):
            first = start.batch if epoch == start.epoch else 0
            if epoch > start.epoch and not self.feed.endless:
                iterator = iter(self._train)
            if not first:
                model.reset_metrics()
                self.guard.remember(epoch)
            self.callbacks.on_epoch_begin(epoch)
            logs = self._epoch(iterator, epoch, first)
            with averaged(model):
                if self.validation is not None and (epoch + 1) % validation_freq == 0:
                    logs.update({f"val_{name}": value for name, value in self._evaluated().items()})
                self.callbacks.on_epoch_end(epoch, logs)
            if after_epoch is not None:
                after_epoch(Position(epoch + 1, 0), 1)
            if model.stop_training:
                break

    def _first_iterator(self, start: Position) -> Iterator:
        rest = self.feed.epochs_from(start.epoch, start.batch)
        return iter(self._train if rest is self.feed.train else self._distributed(rest))

    def _step(self, iterator: Iterator, left: int | None) -> tuple[dict[str, Any], int]:
        """Takes a step; returns its logs and how many batches it took."""
        if self._cycle is not None and self._cycle.fits(left):
            return self._cycle(iterator), self._cycle.batches
        return self._train_step(iterator), self.model.steps_per_execution

    @functools.cached_property
    def _cycle(self) -> Cycle | None:
        if self.one_by_one:
            return None
        function = _train_function(self.model)  # It lasts until the model is compiled anew, and so does its cycle.
        if not hasattr(function, "cycle"):
            function.cycle = cycle(self.model)
        return function.cycle

    @functools.cached_property
    def _train_step(self) -> Callable[[Iterator], dict[str, Any]]:
        if several_machines(self.strategy):
            return _on_every_machine(self.model, self.model.train_step)
        if self.try_xla and self.steps and self.strategy is tf.distribute.get_strategy():
            return Trial(self.model, lambda: _train_function(self.model), self.steps)
        return _train_function(self.model)

    @functools.cached_property
    def _test_step(self) -> Callable[[Iterator], dict[str, Any]]:
        if several_machines(self.strategy):
            return _on_every_machine(self.model, self.model.test_step)
        self.model.make_test_function()
        return self.model.test_function

    @functools.cached_property
    def _train(self) -> Any:
        return self._distributed(self.feed.train)

    def _epoch(self, iterator: Iterator, epoch: int, first: int) -> dict[str, Any]:
        model, batch = self.model, first
        logs: dict[str, Any] = {}
        with _until_exhausted():
            while self.feed.steps is None or batch < self.feed.steps:
                self.callbacks.on_train_batch_begin(batch)
                logs, taken = self._step(iterator, self.feed.steps and self.feed.steps - batch)
                batch += taken
                self.callbacks.on_train_batch_end(batch - 1, logs)
                position = Position(epoch, batch)
                if not several_machines(self.strategy):  # There the loss of a batch is one machine's own.
                    self.guard.check(logs, position, taken)
                if self.after_step is not None:
                    self.after_step(position, taken)
                if model.stop_training:
                    break
        # After a crash between an epoch's last batch and its end no batch is left; the metrics know of the others.
        results = model._get_metrics_result_or_logs(logs) if logs else model.get_metrics_result()
        found = {name: float(value) for name, value in results.items()}
        self.guard.check(found, Position(epoch, batch), 1, always=True)
        return found

    def _evaluated(self) -> dict[str, float]:
        model, logs, batch = self.model, {}, 0
        model.reset_metrics()
        self.callbacks.on_test_begin()
        iterator = iter(self.validation)  # type: ignore[arg-type]
        with _until_exhausted():
            while True:
                self.callbacks.on_test_batch_begin(batch)
                logs = self._test_step(iterator)
                self.callbacks.on_test_batch_end(batch, logs)
                batch += model.steps_per_execution
        found = {name: float(value) for name, value in model._get_metrics_result_or_logs(logs).items()}
        self.callbacks.on_test_end(found)
        return found

    def _distributed(self, dataset: tf.data.Dataset) -> Any:
        return self.strategy.experimental_distribute_dataset(dataset)


def _train_function(model: keras.Model) -> Any:
    made_for = ("tfbig", model.jit_compile)  # What Keras's own fit has traced lacks the fused kernels.
    model.make_train_function(force=getattr(model.train_function, "made_for", None) != made_for)
    model.train_function.made_for = made_for
    return model.train_function


def several_machines(strategy: tf.distribute.Strategy) -> bool:
    """Whether other machines take part in each step."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _on_every_machine(model: keras.Model, step: Callable) -> Callable[[Iterator], dict[str, Any]]:
    """Keras's function for one step, whose own way to join the results fails on several machines.

    The results are those of this machine; the metrics themselves are summed over all when they are read.
    """
    strategy = model.distribute_strategy

    @tf.function(reduce_retracing=True, jit_compile=model.jit_compile)
    def on_batch(batch: Any) -> Any:
        outputs = strategy.run(step, args=(batch,))
        return tf.nest.map_structure(lambda value: strategy.experimental_local_results(value)[0], outputs)

    return lambda iterator: on_batch(next(iterator))


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Has the optimizer's average of the weights in the model inside the block, if it keeps one."""
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    swap = keras.callbacks.SwapEMAWeights()
    swap.set_model(model)
    swap.on_test_begin()
    try:
        yield
    finally:
        swap.on_test_end()


@contextmanager
def _without_false_alarm() -> Iterator[None]:
    """Leaves out TensorFlow's warning of a function that is traced again and again.

    It counts a step's function over all models of the process, each of which has one of its own.
    """
    logger = tf.get_logger()

    def told(record: logging.LogRecord) -> bool:
        return not any(name in record.getMessage() for name in ("multi_step_on_iterator", "_step_of_all"))

    logger.addFilter(told)
    try:
        yield
    finally:
        logger.removeFilter(told)


@contextmanager
def _until_exhausted() -> Iterator[None]:
    """A dataset ends by an error of its iterator."""
    try:
        yield
    except (StopIteration, tf.errors.OutOfRangeError):
        pass
