"""The examples that show how large activations get, out of data in any form."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tfbig.compression.structure.graph import is_graph
from tfbig.data.sequences import from_sequence
from tfbig.errors import InvalidArgument, InvalidData
from tfbig.exporters.inference_graph import input_specs

_SAMPLES = 128


def calibration_samples(model: keras.Model, calibration: Any, limit: int = _SAMPLES) -> list[dict[str, np.ndarray]]:
    """Up to `limit` single examples, by input name: evenly spread over arrays, from the beginning of a dataset.

    Args:
        calibration: a batched `tf.data.Dataset` or `PyDataset`, with or without labels, an array, arrays in the model's
            order or by name, or `(x, y)` of these.

    Raises:
        InvalidArgument: it is of another kind.
        InvalidData: it is empty, holds NaN, or does not fit the model's inputs.
    """
    specs = input_specs(model, 1)
    samples: list[dict[str, np.ndarray]] = []
    for batch in _batches(calibration):
        arrays = [np.asarray(part) for part in _in_order(model, batch)]
        if len(arrays) != len(specs) or any(a.shape[1:] != s.shape[1:] for a, s in zip(arrays, specs, strict=False)):
            raise InvalidData(
                f"`calibration` must give inputs of shape {[tuple(s.shape[1:]) for s in specs]} behind the batch axis, "
                f"received {[a.shape[1:] for a in arrays]}."
            )
        if any(a.dtype.kind == "f" and not np.isfinite(a).all() for a in arrays):
            raise InvalidData(
                "`calibration` holds NaN or infinite values, which have no range. Take them out, or put numbers there."
            )
        for row in _rows(len(arrays[0]), limit - len(samples)):
            samples.append(
                {s.name: a[row : row + 1].astype(s.dtype.as_numpy_dtype) for s, a in zip(specs, arrays, strict=True)}
            )
        if len(samples) == limit:
            break
    if not samples:
        raise InvalidData("`calibration` is empty. Give at least a few dozen typical inputs.")
    return samples


def no_calibration(quantize: str | None) -> InvalidArgument:
    """The error to raise where there is none."""
    return InvalidArgument(
        f"`quantize='{quantize}'` needs `calibration`: data that shows how large the activations get. Give a dataset, "
        "e.g. calibration=data.train (on the command line --data), or train with "
        f"tfbig.Quantize('{quantize}')."
    )


def _rows(count: int, wanted: int) -> np.ndarray:
    """Up to `wanted` of the rows, evenly spread: what is sorted by class is to show all of them."""
    return np.arange(min(count, wanted)) * count // max(1, min(count, wanted))


def _in_order(model: keras.Model, batch: Any) -> list[Any]:
    """The inputs in the model's order: those of a dictionary are found by name, as Keras does."""
    if isinstance(batch, Mapping) and is_graph(model):
        structure = None if isinstance(model, keras.Sequential) else model.input
        names = sorted(structure) if isinstance(structure, dict) else [symbol.name for symbol in model.inputs]
        if missing := [name for name in names if name not in batch]:
            raise InvalidData(
                f"`calibration` must give inputs named {', '.join(names)}, received {', '.join(map(str, batch))}. Add "
                f"{', '.join(missing)}, or give a list in the model's order."
            )
        batch = [batch[name] for name in names]
    return keras.tree.flatten(batch)  # type: ignore[no-any-return]


def _batches(calibration: Any) -> Iterable[Any]:
    if isinstance(calibration, keras.utils.PyDataset):
        calibration = from_sequence(calibration)
    if hasattr(calibration, "element_spec"):
        labelled = isinstance(calibration.element_spec, tuple) and len(calibration.element_spec) > 1
        return (element[0] if labelled else element for element in calibration)
    if callable(calibration) or isinstance(calibration, Iterator):
        raise InvalidArgument(
            f"`calibration` must be a batched tf.data.Dataset, a PyDataset or arrays, received a "
            f"{'generator' if isinstance(calibration, Iterator) else 'function'}. Of a representative dataset of "
            "TensorFlow Lite's converter make an array: np.concatenate([sample[0] for sample in representative()])."
        )
    if isinstance(calibration, tuple) and len(calibration) == 2:
        calibration = calibration[0]
    return [calibration]
