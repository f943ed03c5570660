"""How good outputs are, given the labels: the metrics, and the choice of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tfbig.errors import InvalidArgument, InvalidData, unknown

Metric = Callable[[np.ndarray, np.ndarray], float]  # (labels, outputs) -> quality
Metrics = str | Metric | Mapping[str, str | Metric | None] | None  # one for all outputs, or those of some by name
_PROBABILITY_SLACK = 0.02  # a quantized probability may step a little over 1


def quality_of(labels: np.ndarray, outputs: np.ndarray, metric: str | Metric | None = None) -> tuple[str, float]:
    """The quality of `outputs` and the name of the metric.

    Args:
        labels: class ids `(samples, ...)`, one-hot rows, 0/1 decisions, or numbers to be met.
        outputs: `(samples, ..., classes)` probabilities or logits, or numbers.
        metric: a name, a function `(labels, outputs) -> float`, or None: accuracy where labels are classes,
            else mae.

    Raises:
        InvalidArgument: an unknown metric.
        InvalidData: labels and outputs do not fit each other.
    """
    if callable(metric):
        return getattr(metric, "__name__", "metric"), float(metric(labels, outputs))
    if metric is None:
        metric = "accuracy" if _label_kind(labels, outputs) != "number" else "mae"
    return metric, float(METRICS[_check_metric(metric)](labels, outputs))


def quality_over(
    labels: Sequence[np.ndarray], outputs: Sequence[np.ndarray], metric: Metrics, names: Sequence[str] = ()
) -> tuple[str, float]:
    """The name of the metric, and its mean over the outputs, or over those of `names` that `metric` has.

    Raises:
        InvalidArgument: an unknown metric, or an output that is not there.
        InvalidData: labels and outputs do not fit each other, or each output asks for another metric.
    """
    if len(labels) != len(outputs):
        raise InvalidData(
            f"The model has {len(outputs)} outputs, the data has labels for {len(labels)}. Give one for each."
        )
    if isinstance(metric, Mapping):
        if strange := [name for name in metric if name not in names]:
            raise unknown("output in `metric`:", strange[0], names)
        asked = [(list(names).index(name), one) for name, one in metric.items()]
    else:
        asked = [(i, metric) for i in range(len(outputs))]
    scores = [quality_of(labels[i], outputs[i], one) for i, one in asked]
    kinds = sorted({kind for kind, _ in scores})
    if len(kinds) > 1:
        example = names[-1] if names else "output_0"
        raise InvalidData(
            f"The outputs ask for different metrics ({', '.join(kinds)}), whose mean says nothing. Name one for all, "
            f"or the output that counts: metric={{'{example}': '{scores[-1][0]}'}}."
        )
    return kinds[0], float(np.mean([value for _, value in scores]))


def check_metrics(metric: Metrics) -> None:
    """Raises `InvalidArgument` for a name that no metric has, with the nearest one, or for no metric at all."""
    if isinstance(metric, Mapping) and not metric:
        raise InvalidArgument("`metric` must name at least one output, received {}.")
    for one in metric.values() if isinstance(metric, Mapping) else [metric]:
        if isinstance(one, str):
            _check_metric(one)


def _check_metric(metric: str) -> str:
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    return metric


def accuracy(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Share of right decisions in [0, 1]; a single output says yes above 0.5 (a logit above 0)."""
    right, chosen = _decisions(labels, outputs)
    return float(np.mean(right == chosen))


def f1(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Harmonic mean of precision and recall in [0, 1]: of class 1 where there are two, else the mean over the classes.

    Classes that are neither among the labels nor chosen are left out.
    """
    right, chosen = _decisions(labels, outputs)
    classes = np.union1d(right, chosen) if max(right.max(), chosen.max()) > 1 else [1]
    shared = [2 * np.sum((right == c) & (chosen == c)) for c in classes]
    either = [np.sum(right == c) + np.sum(chosen == c) for c in classes]
    return float(np.mean([s / max(1, e) for s, e in zip(shared, either, strict=True)]))


def top5_accuracy(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Share of samples whose class is among the five largest outputs."""
    kind = _label_kind(labels, outputs)
    if kind not in ("id", "one-hot"):
        raise InvalidData(f"top5_accuracy needs class labels, received labels {labels.shape} for {outputs.shape}.")
    ids = _class_ids(labels, outputs) if kind == "id" else labels.argmax(-1)
    best = np.argsort(outputs, axis=-1)[..., -5:]
    return float(np.mean(np.any(best == ids[..., None], axis=-1)))


def mae(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Mean absolute error, in the unit of the labels."""
    labels, outputs = _same_shape(labels, outputs)
    return float(np.mean(np.abs(labels - outputs)))


def mse(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Mean squared error."""
    labels, outputs = _same_shape(labels, outputs)
    return float(np.mean(np.square(labels - outputs)))


def rmse(labels: np.ndarray, outputs: np.ndarray) -> float:
    """Root of the mean squared error, in the unit of the labels."""
    return float(np.sqrt(mse(labels, outputs)))


METRICS: dict[str, Metric] = {m.__name__: m for m in (accuracy, top5_accuracy, f1, mae, mse, rmse)}
ERRORS = ("mae", "mse", "rmse")  # less is better; the others are shares, more is better


def _decisions(labels: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The right class of each sample and the one chosen; 0 and 1 for outputs that say yes or no."""
    kind = _label_kind(labels, outputs)
    if kind == "id":
        return _class_ids(labels, outputs), outputs.argmax(-1)
    if kind == "one-hot":
        return labels.argmax(-1), outputs.argmax(-1)
    labels, outputs = _same_shape(labels, outputs)
    is_probability = outputs.min() >= -_PROBABILITY_SLACK and outputs.max() <= 1 + _PROBABILITY_SLACK
    return (labels > 0.5).astype(int), (outputs > (0.5 if is_probability else 0.0)).astype(int)


def _label_kind(labels: np.ndarray, outputs: np.ndarray) -> str:
    """What the labels are: "id", "one-hot", "decision" or "number"."""
    is_whole = labels.dtype.kind in "iub" or bool(np.all(labels == np.round(labels)))
    if is_whole and outputs.ndim >= 1 and outputs.shape[-1] > 1 and labels.size * outputs.shape[-1] == outputs.size:
        return "id"
    if labels.size != outputs.size:
        return "number"
    if not np.all((labels == 0) | (labels == 1)):
        return "number"
    rows = labels.reshape(-1, labels.shape[-1]) if labels.ndim > 1 else labels[:, None]
    return "one-hot" if rows.shape[1] > 1 and np.all(rows.sum(1) == 1) else "decision"


def _class_ids(labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    ids, classes = labels.reshape(outputs.shape[:-1]).astype(np.int64), outputs.shape[-1]
    if ids.min() < 0 or ids.max() >= classes:
        raise InvalidData(
            f"The labels go from {ids.min()} to {ids.max()}, expected class ids from 0 to {classes - 1} for "
            f"the model's {classes} outputs. Number the classes from 0, or build the model with enough of "
            "them."
        )
    return ids


def _same_shape(labels: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if labels.size != outputs.size or len(labels) != len(outputs):
        raise InvalidData(
            f"Labels of shape {labels.shape} do not fit outputs of shape {outputs.shape}. Give one label per "
            "output, or class ids for outputs that hold one number per class."
        )
    return labels.astype(np.float64), outputs.reshape(labels.shape).astype(np.float64)
