"""Between arrays of real numbers and the tensors at the ends of a LiteRT file: order, shape, quantization."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfbig.errors import InvalidData
from tfbig.measurement.flatbuffer import LiteRTFile

Inputs = Sequence[np.ndarray] | Mapping[str, np.ndarray]
Detail = dict[str, Any]  # one entry of the interpreter's get_input_details


def arrange_inputs(file: LiteRTFile, details: Sequence[Detail], inputs: Inputs) -> list[np.ndarray]:
    """The inputs in the order of the file: a list as it is, a dictionary by the names in the signature.

    Raises:
        InvalidData: too many, too few, or a name that the file does not have.
    """
    names = _names(file.input_names, details)
    if len(inputs) != len(details):
        received = f": {', '.join(inputs)}" if isinstance(inputs, Mapping) else ""
        raise InvalidData(
            f"`{file.path}` has {len(details)} inputs ({', '.join(names)}), received "
            f"{len(inputs)}{received}. Give one array for each."
        )
    if not isinstance(inputs, Mapping):
        return [np.asarray(array) for array in inputs]
    if len(details) > 1 and (missing := [name for name in names if name not in inputs]):
        raise InvalidData(
            f"`{file.path}` has the inputs {', '.join(names)}, received {', '.join(inputs)}: "
            f"{', '.join(missing)} is missing. Rename the data's inputs."
        )
    return [np.asarray(inputs[name]) for name in (names if len(details) > 1 else inputs)]


def order_outputs(file: LiteRTFile, details: Sequence[Detail]) -> list[Detail]:
    """The outputs as Keras orders them: `output_0`, `output_1`, ... or the keys of a dictionary, sorted.

    The graph's own order is an accident of the converter; it serves when there is no signature.
    """
    by_index = {detail["index"]: detail for detail in details}
    names = natural_order(file.output_names)
    if sorted(file.output_names.values()) != sorted(by_index):
        return list(details)
    return [by_index[file.output_names[name]] for name in names]


def natural_order(names: Iterable[str]) -> list[str]:
    """Names sorted with their numbers as numbers: `output_2` comes before `output_10`."""
    return sorted(names, key=lambda n: [(int(p), "") if p.isdigit() else (-1, p) for p in re.split(r"(\d+)", n)])


def check_shapes(file: LiteRTFile, details: Sequence[Detail], arrays: Sequence[np.ndarray]) -> None:
    """Raises `InvalidData` unless every array is a batch of what its input takes, all of one length."""
    for name, detail, array in zip(_names(file.input_names, details), details, arrays, strict=True):
        own = tuple(int(size) for size in detail["shape"])
        expected = tuple(int(size) for size in detail["shape_signature"]) or own
        inner = zip(expected[1:], array.shape[1:], strict=False)
        fits = len(expected) == array.ndim > 0 and all(want in (-1, size) for want, size in inner)
        if not fits and array.shape != own:
            raise InvalidData(
                f"The data does not fit `{file.path}`: its input '{name}' takes samples of shape "
                f"{expected[1:]}, received {array.shape[1:]}. Reshape the data, or measure it with its own "
                "data."
            )
    sizes = {len(array) for array in arrays if array.ndim}
    if len(sizes) > 1:
        raise InvalidData(f"All inputs must have as many samples, received {sorted(sizes)}. Pair them up.")
    if sizes == {0}:
        raise InvalidData(f"There is no sample to run `{file.path}` on: expected at least 1, received 0. Give it data.")


def to_tensor(array: np.ndarray, detail: Detail) -> np.ndarray:
    """Real numbers as the tensor stores them.

    Raises:
        InvalidData: a number that the tensor's type cannot hold.
    """
    scale, zero_point = detail["quantization"]
    dtype = np.dtype(detail["dtype"])
    if dtype.kind not in "iub":
        return array.astype(dtype) if dtype.kind in "fc" else array
    if scale and not np.all(np.isfinite(array)):
        raise InvalidData(f"Input '{detail['name']}' is quantized and takes finite numbers, received NaN or infinity.")
    if scale:
        limits: np.iinfo = np.iinfo(detail["dtype"])
        return np.clip(np.round(array / scale) + zero_point, limits.min, limits.max).astype(dtype)
    whole = array.astype(dtype)
    if not np.array_equal(whole, array):
        raise InvalidData(
            f"Input '{detail['name']}' takes {dtype.name}, received {array.dtype.name} values that do not "
            f"fit (from {array.min()} to {array.max()}). Give whole numbers in its range."
        )
    return whole


def from_tensor(values: np.ndarray, detail: Detail) -> np.ndarray:
    """A tensor's real numbers: quantized values as float32, everything else as it is."""
    scale, zero_point = detail["quantization"]
    if not scale or values.dtype.kind not in "iu":
        return values
    return ((values.astype(np.float32) - zero_point) * np.float32(scale)).astype(np.float32)


def _names(signature: Mapping[str, int], details: Sequence[Detail]) -> list[str]:
    by_index = {index: name for name, index in signature.items()}
    return [str(by_index.get(detail["index"], detail["name"])) for detail in details]
