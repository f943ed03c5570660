"""Between arrays of real numbers and the tensors at the ends of a LiteRT file: order, shape, quantization."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tfbig.errors import InvalidData
from tfbig.exporters.facts import NAME, decode
from tfbig.measurement.flatbuffer import LiteRTFile

_MOST_ORDERED = 6  # inputs that all orders are tried of
Inputs = Sequence[np.ndarray] | Mapping[str, np.ndarray]
Detail = dict[str, Any]  # one entry of the interpreter's get_input_details


def arrange_inputs(file: LiteRTFile, details: Sequence[Detail], inputs: Inputs) -> list[np.ndarray]:
    """The inputs in the order of the interpreter: a list by the model's order, a dictionary by the signature's names.

    The interpreter's own order is an accident of the converter. The model's stands in the metadata of files that tfbig
    wrote; for others a list must fit in one order only.

    Raises:
        InvalidData: too many, too few, a name that the file does not have, or a list that fits in several orders.
    """
    names = _names(file.input_names, details)
    if len(inputs) != len(details):
        received = f": {', '.join(inputs)}" if isinstance(inputs, Mapping) else ""
        raise InvalidData(
            f"`{file.path}` has {len(details)} inputs ({', '.join(names)}), received "
            f"{len(inputs)}{received}. Give one array for each."
        )
    if not isinstance(inputs, Mapping):
        return _in_order(file, details, [np.asarray(array) for array in inputs])
    if len(details) > 1 and (missing := [name for name in names if name not in inputs]):
        raise InvalidData(
            f"`{file.path}` has the inputs {', '.join(names)}, received {', '.join(inputs)}: "
            f"{', '.join(missing)} is missing. Rename the data's inputs."
        )
    return [np.asarray(inputs[name]) for name in (names if len(details) > 1 else inputs)]


def _in_order(file: LiteRTFile, details: Sequence[Detail], arrays: list[np.ndarray]) -> list[np.ndarray]:
    """A list of arrays as the interpreter wants it."""
    names = _names(file.input_names, details)
    order = declared(file, "inputs")
    if order is not None and sorted(order) == sorted(names):
        by_name = dict(zip(order, arrays, strict=True))
        return [by_name[name] for name in names]
    if len(arrays) > _MOST_ORDERED:
        raise InvalidData(_ambiguous(file, names))
    orders = [order for order in itertools.permutations(arrays) if _agree(_has_shape, order, details)]
    if len(orders) > 1:
        orders = [order for order in orders if _agree(_has_kind, order, details)]
        if len(orders) != 1:
            raise InvalidData(_ambiguous(file, names))
    return list(orders[0]) if orders else arrays  # A shape that fits nowhere is named by the checks that follow.


def _agree(fits: Callable[[np.ndarray, Detail], bool], arrays: Sequence[np.ndarray], details: Sequence[Detail]) -> bool:
    return all(fits(array, detail) for array, detail in zip(arrays, details, strict=True))


def declared(file: LiteRTFile, ends: str) -> list[str] | None:
    """The names of the "inputs" or "outputs" in the order of the Keras model, where tfbig wrote them down."""
    try:
        order = decode(file.metadata.get(NAME, b"{}"))[ends]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    order = order.get(file.signature) if isinstance(order, dict) else order  # a list for each signature
    return [str(name) for name in order] if isinstance(order, list) else None


def _has_shape(array: np.ndarray, detail: Detail) -> bool:
    expected = tuple(int(size) for size in detail["shape_signature"]) or tuple(int(size) for size in detail["shape"])
    inner = zip(expected[1:], array.shape[1:], strict=False)
    return len(expected) == array.ndim and all(want in (-1, size) for want, size in inner)


def _has_kind(array: np.ndarray, detail: Detail) -> bool:
    takes_whole = np.dtype(detail["dtype"]).kind in "iub" and not detail["quantization"][0]
    return bool(takes_whole == (array.dtype.kind in "iub"))


def _ambiguous(file: LiteRTFile, names: Sequence[str]) -> str:
    return (
        f"`{file.path}` does not say in which order its inputs {', '.join(names)} are to be given, and a list fits in "
        f"several. Give a dictionary: {{{', '.join(f'{name!r}: ...' for name in names)}}}."
    )


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
