"""`tfbig.training.fit`: Keras `fit`, with strategies, precisions, schedules, and checkpoints that lose nothing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfbig.errors import InvalidArgument, check_count, check_range
from tfbig.training.checkpoint import CheckpointFolder
from tfbig.training.compilation import OptimizerOptions, chosen_compilation
from tfbig.training.feed import Feed, feed
from tfbig.training.run import Run
from tfbig.training.state import Position
from tfbig.training.strategy import is_chief
from tfbig.training.strategy import strategy as strategy_of


def fit(
    model: keras.Model,
    data: Any,
    *,
    epochs: int = 1,
    strategy: str | tf.distribute.Strategy = "none",
    precision: str | None = None,
    optimizer: str | keras.optimizers.Optimizer | None = None,
    loss: Any = None,
    metrics: Any = None,
    loss_weights: Any = None,
    weighted_metrics: Any = None,
    learning_rate: float | None = None,
    schedule: str | keras.optimizers.schedules.LearningRateSchedule | None = None,
    warmup: float = 0.0,
    weight_decay: float | None = None,
    clip_norm: float | None = None,
    ema: float | None = None,
    accumulate: int = 1,
    label_smoothing: float = 0.0,
    class_weight: dict[int, float] | None = None,
    early_stopping: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int | None = None,
    keep: int = 3,
    logs: str | os.PathLike | None = None,
    callbacks: Sequence[keras.callbacks.Callback] | None = None,
    validation_data: Any = None,
    validation_freq: int = 1,
    batch_size: int = 32,
    shuffle: bool = True,
    seed: int = 0,
    steps_per_epoch: int | None = None,
    initial_epoch: int = 0,
    jit_compile: bool | str | None = None,
    recompute: bool = False,
    placement: Mapping[str, str] | None = None,
    verbose: str | int = "auto",
) -> keras.callbacks.History:
    """Trains `model` in place, as Keras `fit` does, with the same callbacks, progress bar and history.

    A model that is compiled keeps its compile settings but for what is given here. One that is not is compiled with
    Adam and the loss that fits its output: cross-entropy for class ids (from logits unless the last activation is
    softmax), binary cross-entropy for one sigmoid, the mean squared error for numbers. A custom `train_step` runs.

    Args:
        data: `tfbig.data.Data`, a batched `tf.data.Dataset`, arrays `(x, y)` or `(x, y, sample_weight)`, or a
            Keras `PyDataset`.
        epochs: passes over the data, counted from the first one ever where training resumes.
        strategy: "none", "mirrored", "multiworker", "tpu", or a `tf.distribute.Strategy`. Batches are global: they
            are shared out among the devices. A model built elsewhere is copied there and gets its weights back.
        precision: "float32", "mixed_float16" (with dynamic loss scaling) or "mixed_bfloat16", for this training
            only: the model computes as before afterwards. None changes nothing.
        optimizer: a name that `tfbig.training.optimizer` takes, or an optimizer.
        loss, metrics, loss_weights, weighted_metrics: as for Keras `compile`.
        learning_rate: the highest learning rate.
        schedule: "constant", "cosine", "linear", "exponential", or a Keras schedule.
        warmup: share of the training in [0, 1), or batches, in which the learning rate rises from zero.
        weight_decay, clip_norm, ema, accumulate: see `tfbig.training.optimizer`; for optimizers given by name.
        label_smoothing: share of the target spread over all classes, in [0, 1); for the loss chosen here.
        class_weight: weight of the loss for each class id.
        early_stopping: epochs without a better validation loss after which training ends with the best weights.
        checkpoint: folder for checkpoints of everything that training changes. If it holds some, training goes on
            from the newest; on one CPU the weights are then bit for bit those of a training that never stopped.
        checkpoint_every: batches between checkpoints, on top of the one after each epoch. Where a step takes several
            batches, as accumulated ones, it is written behind the step, and callbacks hear of the step once.
        keep: checkpoints to keep.
        logs: folder for `history.csv` and TensorBoard event files.
        validation_data: as `data`; by default the validation split of a `Data`.
        validation_freq: epochs between validations.
        batch_size, shuffle, seed: for arrays only. The order of epoch k depends on `seed` and k alone.
        steps_per_epoch: batches that make an epoch, for data that never ends.
        initial_epoch: epochs done before.
        jit_compile: XLA on or off. "auto" tries both for a few steps and keeps the faster, if the training is long
            enough to win back what compiling costs. None keeps what the model was compiled with, else it is off on a
            CPU, where a training then gives the same bits each time.
        recompute: keeps little of the forward pass and computes it again for the gradients: less memory, about a third
            more time, the same gradients.
        placement: a device for each pattern of layer names, e.g. {"block3_*": "GPU:1"}: parts of one model on several
            devices. The first pattern that fits counts.
        verbose: "auto", 0 (silent), 1 (progress bar), 2 (a line per epoch).

    Returns:
        Keras's `History`, that of the epochs before a restart included.

    Raises:
        InvalidArgument: an unknown name or a value out of range.
        InvalidData: empty data or arrays that do not fit together.
        InvalidModel: no loss fits, or the model cannot be copied to the strategy's devices.
        TrainingDiverged: the loss became NaN or infinite; the model holds its last good weights.
        CheckpointFailed: a checkpoint could not be written; the earlier ones are whole.

    References:
        Micikevicius et al., "Mixed Precision Training", ICLR 2018.
        Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174 (recompute).
        Goyal et al., "Accurate, Large Minibatch SGD", arXiv:1706.02677 (warm-up, global batches).
    """
    _check(epochs, checkpoint_every, early_stopping, label_smoothing, batch_size)
    target = strategy_of(strategy)
    if placement is not None and target is not tf.distribute.get_strategy():
        raise InvalidArgument(
            "`placement` puts parts of one model on several devices, `strategy` copies of it: give one."
        )
    if accumulate != 1 and isinstance(target, tf.distribute.MirroredStrategy) and target.num_replicas_in_sync > 1:
        raise InvalidArgument(
            f"`accumulate`={accumulate!r} cannot go with `strategy` on {target.num_replicas_in_sync} devices: Keras's "
            "optimizers accumulate on one. Leave one of the two out."
        )
    source = feed(
        data,
        validation_data=validation_data,
        batch_size=batch_size,
        shuffle=shuffle,
        seed=seed,
        class_weight=class_weight,
        steps_per_epoch=steps_per_epoch,
    )
    batches = source.steps and source.steps * epochs
    if batches and isinstance(accumulate, int) and accumulate > batches:
        raise InvalidArgument(
            f"`accumulate`={accumulate} is more than the {batches} batches of the whole training, which would make no "
            "step. Ask for fewer."
        )
    options = OptimizerOptions(
        chosen=optimizer,
        learning_rate=learning_rate,
        schedule=schedule,
        warmup=warmup,
        weight_decay=weight_decay,
        clip_norm=clip_norm,
        ema=ema,
        accumulate=accumulate,
        steps=batches,
    )
    compilation = chosen_compilation(
        model,
        options,
        source,
        loss=loss,
        metrics=metrics,
        loss_weights=loss_weights,
        weighted_metrics=weighted_metrics,
        smoothing=label_smoothing,
        jit_compile=jit_compile,
    )
    return Run(
        feed=source,
        compilation=compilation,
        callbacks=[*(callbacks or ()), *_extra_callbacks(early_stopping, logs if is_chief(target) else None, source)],
        folder=CheckpointFolder(checkpoint, keep) if checkpoint is not None else None,
        every=checkpoint_every,
        start=Position(initial_epoch),
        epochs=epochs,
        validation_freq=validation_freq,
        verbose=verbose,
        recompute=recompute,
        placement=placement,
    ).on(model, target, precision)


def _extra_callbacks(
    early_stopping: int | None, logs: str | os.PathLike | None, source: Feed
) -> list[keras.callbacks.Callback]:
    extra: list[keras.callbacks.Callback] = []
    if early_stopping is not None:
        monitor = "loss" if source.validation is None else "val_loss"
        extra.append(
            keras.callbacks.EarlyStopping(monitor, patience=early_stopping, restore_best_weights=True, mode="min")
        )
    if logs is not None:
        Path(logs).mkdir(parents=True, exist_ok=True)
        extra.append(keras.callbacks.CSVLogger(str(Path(logs) / "history.csv"), append=True))
        extra.append(keras.callbacks.TensorBoard(str(logs)))
    return extra


def _check(
    epochs: object, checkpoint_every: object, early_stopping: object, label_smoothing: float, batch_size: object
) -> None:
    counts = {"epochs": epochs, "checkpoint_every": checkpoint_every, "early_stopping": early_stopping}
    for name, value in counts.items():
        if value is not None or name == "epochs":
            check_count(name, value)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    check_range("label_smoothing", label_smoothing, 0, 1, closed="left")
