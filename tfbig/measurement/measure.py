"""`measure`: what a file delivers, found out from the file itself."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from tfbig.errors import InvalidData, check_count
from tfbig.measurement.masks import Masks, output_masks, visible
from tfbig.measurement.quality import Metrics, check_metrics, quality_over
from tfbig.measurement.samples import batches, leaves, slice_structure
from tfbig.measurement.size import gzip_bytes, raw_bytes
from tfbig.measurement.subject import Subject, subject_of


@dataclasses.dataclass(frozen=True)
class Measurement:
    """The figures of one file or model; None stands for what was not measured."""

    file: str | None
    quality: float | None  # in [0, 1] for accuracies, in the unit of the labels for mae and rmse
    quality_name: str
    samples: int  # that the quality was measured on
    bytes: int | None
    gzip_bytes: int | None  # after gzip -9
    parameters: int
    zero_fraction: float  # of the weights in tensors of rank 2 and more
    distinct_weights: int  # the most different values in one weight tensor
    latency_ms: float | None  # median of one invocation
    latency_p95_ms: float | None
    threads: int
    macs: int | None = None  # multiply-accumulates of one invocation
    arena_bytes: int | None = None  # that activations need at once
    weights: int | None = None  # parameters in tensors of rank 2 and more


def measure(
    model_or_path: Any,
    data: Any = None,
    *,
    threads: int = 1,
    runs: int = 50,
    latency: bool = True,
    xnnpack: bool = True,
    metric: Metrics = None,
    masked_by: Any = None,
) -> Measurement:
    """Measures a LiteRT, ONNX or Keras file, a C array, a SavedModel folder, or a Keras model; they stay as they are.

    Args:
        model_or_path: the path of a `.tflite`, `.onnx`, `.keras`, `.h5`, `.cc` or `.c` file or of a SavedModel folder,
            or a Keras model.
        data: what `tfbig.data.load` gives (its test split), a batched `tf.data.Dataset` of `(x, y)`, or a
            tuple `(x, y)`. Without it there is no quality.
        threads: of the interpreter while it is timed.
        runs: timed invocations, after a warm-up.
        latency: whether to time; only LiteRT files are timed, for they are what runs on the device.
        xnnpack: False times LiteRT's own kernels instead of its default delegate.
        metric: "accuracy", "top5_accuracy", "f1", "mae", "mse", "rmse", or a function `(labels, outputs) -> float`.
            By default accuracy where the labels are classes, one-hot rows or 0/1, else mae. With several
            outputs the quality is the mean over them, or over those that a dictionary has: {"price": "mae"}.
        masked_by: the Keras model that a file was made from: positions of sequences that its masks hide, such as
            padding, do not count, as in Keras's own metrics. A Keras model to be measured is its own.

    Raises:
        InvalidArgument: an unknown metric, or a count below 1.
        InvalidFile: the file is missing, damaged, or of another kind.
        InvalidData: the data is empty or does not fit the model.
        ConversionFailed: LiteRT refuses the file or crashes on it.
    """
    check_count("threads", threads)
    check_count("runs", runs)
    check_metrics(metric)
    subject = subject_of(model_or_path)
    masks = output_masks(getattr(subject, "model", None) if masked_by is None else masked_by)
    quality = quality_on(subject, batches(data), metric, masks) if data is not None else Quality(None, "", 0, None)
    speed = subject.latency(quality.first_sample, threads, runs, xnnpack) if latency else None
    weights, cost = subject.weights(), subject.cost()
    return Measurement(
        file=str(model_or_path) if subject.file else None,
        quality=quality.value,
        quality_name=quality.name,
        samples=quality.samples,
        bytes=raw_bytes(subject.file) if subject.file else None,
        gzip_bytes=gzip_bytes(subject.file) if subject.file else None,
        parameters=weights.parameters,
        zero_fraction=weights.zero_fraction,
        distinct_weights=weights.distinct_weights,
        latency_ms=speed.median_ms if speed else None,
        latency_p95_ms=speed.p95_ms if speed else None,
        threads=threads,
        macs=cost.macs if cost else None,
        arena_bytes=cost.arena_bytes if cost else None,
        weights=weights.weights,
    )


@dataclasses.dataclass(frozen=True)
class Quality:
    """What came of a model's outputs beside the labels."""

    value: float | None
    name: str
    samples: int
    first_sample: Any


def quality_on(
    subject: Subject, pairs: Iterable[tuple[Any, Any]], metric: Metrics, masks: Masks | None = None
) -> Quality:
    """The quality of the outputs for batches of (x, y), where the masks let them through."""
    first, samples, labels, outputs = None, 0, [], []
    names_of = functools.cache(subject.output_names)  # It may ask a child process.
    for x, y in pairs:
        first = slice_structure(x, 0, 1) if first is None else first
        found, wanted = subject.predict(x), _labels_in_order(names_of, y)
        samples += len(found[0])
        if masks is not None and len(found) == len(wanted):
            hidden = masks(x)
            found = [visible(value, mask) for value, mask in zip(found, hidden, strict=True)]
            wanted = [visible(value, mask) for value, mask in zip(wanted, hidden, strict=True)]
        outputs.append(found)
        labels.append(wanted)
    columns = [np.concatenate(column) for column in zip(*labels, strict=True)]
    results = [np.concatenate(column) for column in zip(*outputs, strict=True)]
    names = names_of() if isinstance(metric, Mapping) or len(results) > 1 else ()
    name, value = quality_over(columns, results, metric, names)
    return Quality(value, name, samples, first)


def _labels_in_order(names_of: Callable[[], list[str]], y: Any) -> list[np.ndarray]:
    if not isinstance(y, dict) or len(y) < 2:
        return leaves(y)
    names = names_of()
    if sorted(names) != sorted(y):
        raise InvalidData(
            f"The labels are named {', '.join(sorted(y))}, the outputs {', '.join(names)}. Use the same names."
        )
    return [y[name] for name in names]
