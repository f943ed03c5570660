"""Channel rules for what moves, joins, cuts or pools axes without weights."""

from __future__ import annotations

import functools

import keras
import numpy as np

from tfbig.compression.structure.atoms import Labels
from tfbig.compression.structure.flow import Channels, Count, Flow, NotUnderstood, fixed, rule
from tfbig.compression.structure.graph import Call, channel_axis

Axes = tuple[Labels, ...]
SPATIAL_LAYERS = tuple(
    f"{name}{rank}D"
    for name in (
        *("AveragePooling", "MaxPooling", "AdaptiveAveragePooling", "AdaptiveMaxPooling"),
        *("ZeroPadding", "Cropping", "UpSampling"),
    )
    for rank in (1, 2, 3)
)
GLOBAL_POOLING = tuple(f"Global{name}Pooling{rank}D" for name in ("Average", "Max") for rank in (1, 2, 3))
REDUCTIONS = ("Sum", "Mean", "Max", "Min", "Amax", "Amin", "Prod", "Std", "Var", "Any", "All", "Logsumexp")


@rule(*SPATIAL_LAYERS, "ops.MaxPool", "ops.AveragePool", "Resizing")
def spatial(call: Call, flow: Flow) -> Channels:
    x = flow.of(call.inputs[0])
    return flow.only(x, channel_axis(call.operation, len(x.axes)))


@rule("ops.Resize")
def resized(call: Call, flow: Flow) -> Channels:
    if call.operation.pad_to_aspect_ratio:  # with a value that need not be zero
        raise NotUnderstood
    x = flow.of(call.inputs[0])
    return flow.only(x, channel_axis(call.operation, len(x.axes)))


@rule("Masking")
def masking(call: Call, flow: Flow) -> Channels:
    """A step is masked if all its channels are the mask's value: zeros that go do not change that."""
    x = flow.of(call.inputs[0])
    return flow.only(x, -1) if x.zero and call.operation.mask_value == 0 else flow.whole(x, -1)


@rule(*GLOBAL_POOLING)
def global_pooling(call: Call, flow: Flow) -> Channels:
    x = flow.of(call.inputs[0])
    axis = channel_axis(call.operation, len(x.axes))
    x = flow.only(x, axis)
    return x if call.operation.keepdims else Channels((None, x[axis]), x.zero)


@rule("Flatten")
def flatten(call: Call, flow: Flow) -> Channels:
    if call.operation.data_format == "channels_first":
        raise NotUnderstood
    return _reshaped(call, flow)


@rule("Reshape")
def reshape_layer(call: Call, flow: Flow) -> Channels:
    layer, x = call.operation, _reshaped(call, flow)
    flow.edit(layer, "target_shape", x.axes[1:], lambda count: _sizes(layer.target_shape, x.axes[1:], count))
    return x


@rule("ops.Reshape")
def reshape_operation(call: Call, flow: Flow) -> Channels:
    operation, x = call.operation, _reshaped(call, flow)
    if isinstance(operation.newshape, int):
        raise NotUnderstood
    flow.edit(operation, "newshape", x.axes, lambda count: _sizes(operation.newshape, x.axes, count))
    return x


@rule("ops.ExpandDims", "ops.Squeeze")
def ones(call: Call, flow: Flow) -> Channels:
    return _reshaped(call, flow)


@rule("Permute")
def permute(call: Call, flow: Flow) -> Channels:
    return _transposed(flow.of(call.inputs[0]), (0, *call.operation.dims))


@rule("ops.Transpose")
def transpose(call: Call, flow: Flow) -> Channels:
    x = flow.of(call.inputs[0])
    return _transposed(x, call.operation.axes or range(len(x.axes))[::-1])


@rule("ops.Swapaxes")
def swap_axes(call: Call, flow: Flow) -> Channels:
    x = flow.of(call.inputs[0])
    order = list(range(len(x.axes)))
    a, b = call.operation.axis1, call.operation.axis2
    order[a], order[b] = order[b], order[a]
    return _transposed(x, order)


@rule("RepeatVector")
def repeat_vector(call: Call, flow: Flow) -> Channels:
    x = flow.of(call.inputs[0])
    return Channels((None, None, x[1]), x.zero)


@rule("Concatenate", "ops.Concatenate")
def concatenate(call: Call, flow: Flow) -> Channels:
    operands = keras.tree.flatten((call.args, call.kwargs))
    if len(operands) != len(call.inputs):
        raise NotUnderstood
    parts = [flow.of(x) for x in call.inputs]
    rank = len(parts[0].axes)
    along = call.operation.axis % rank
    axes: list[Labels] = []
    for axis in range(rank):
        if axis == along:
            axes.append(_joined(parts, [x.shape[axis] for x in call.inputs], axis))
            continue
        axes.append(functools.reduce(flow.atoms.merge, [part[axis] for part in parts]))
    return Channels(tuple(axes), all(part.zero for part in parts))


@rule("ops.Stack")
def stack(call: Call, flow: Flow) -> Channels:
    if len(keras.tree.flatten((call.args, call.kwargs))) != len(call.inputs):
        raise NotUnderstood
    parts = [flow.of(x) for x in call.inputs]
    axes = [functools.reduce(flow.atoms.merge, facing) for facing in zip(*(x.axes for x in parts), strict=True)]
    axes.insert(call.operation.axis % (len(axes) + 1), None)
    return Channels(tuple(axes), all(part.zero for part in parts))


@rule("ops.Pad")
def pad(call: Call, flow: Flow) -> Channels:
    """What is added at the ends stays; only constants are understood on an axis of channels."""
    operation, x = call.operation, flow.of(call.inputs[0])
    widths = list(operation.pad_width) * (len(x.axes) if len(operation.pad_width) == 1 else 1)
    padded = [axis for axis, ends in enumerate(widths) if any(ends)]
    if operation.mode != "constant":
        x, padded = flow.whole(x, *padded), []
    axes = list(x.axes)
    for axis in padded:
        if (labels := axes[axis]) is not None:
            axes[axis] = np.pad(labels, widths[axis])
    return Channels(tuple(axes), x.zero)


@rule("ops.Split")
def split(call: Call, flow: Flow) -> list[Channels]:
    operation, x = call.operation, flow.of(call.inputs[0])
    axis = operation.axis % len(x.axes)
    labels, places = x[axis], operation.indices_or_sections
    if labels is None:
        return [x for _ in call.outputs]
    if isinstance(places, int):
        flow.atoms.merge_rows(labels.reshape(places, -1))
        return [x.replace(axis, part, zero=x.zero) for part in np.split(labels, places)]
    flow.edit(operation, "indices_or_sections", [labels], lambda count: tuple(count(labels[:end]) for end in places))
    return [x.replace(axis, part, zero=x.zero) for part in np.split(labels, places)]


@rule("ops.GetItem")
def get_item(call: Call, flow: Flow) -> Channels:
    """Axes taken whole keep their channels; an axis that is cut or indexed stays whole."""
    x, shape = flow.of(call.inputs[0]), call.inputs[0].shape
    axes: list[Labels] = []
    axis = 0
    for key in _full_key(call, len(shape)):
        if key is None:
            axes.append(None)
            continue
        everything = isinstance(key, slice) and key.indices(shape[axis]) == (0, shape[axis], 1)
        if not everything:
            flow.atoms.freeze(x[axis])
        if isinstance(key, slice):
            axes.append(x[axis] if everything else None)
        axis += 1
    return Channels(tuple(axes), x.zero)


@rule(*(f"ops.{name}" for name in REDUCTIONS))
def reduction(call: Call, flow: Flow) -> Channels:
    operation, x = call.operation, flow.of(call.inputs[0])
    rank = len(x.axes)
    given = range(rank) if operation.axis is None else np.atleast_1d(operation.axis)
    gone = {int(axis) % rank for axis in given}
    exact = type(operation).__name__ in ("Sum", "Any") and x.zero
    if not exact:
        x = flow.whole(x, *gone)
    kept = tuple(None if axis in gone else labels for axis, labels in enumerate(x.axes))
    if not operation.keepdims:
        kept = tuple(labels for axis, labels in enumerate(x.axes) if axis not in gone)
    linear = type(operation).__name__ in ("Sum", "Mean", "Max", "Min", "Amax", "Amin", "Std", "Var", "Any")
    return Channels(kept, x.zero and linear)


@rule("Softmax", "ops.Softmax", "ops.LogSoftmax")
def softmax(call: Call, flow: Flow) -> Channels:
    axes = np.atleast_1d(call.operation.axis)
    x = flow.whole(flow.of(call.inputs[0]), *(int(axis) for axis in axes))
    if len(call.inputs) > 1:
        raise NotUnderstood
    return Channels(x.axes, zero=False)


def _reshaped(call: Call, flow: Flow) -> Channels:
    """Follows channels through a change of shape, run by run of axes that hold the same elements."""
    x, before, after = flow.of(call.inputs[0]), call.inputs[0].shape, call.outputs[0].shape
    x = flow.whole(x, *(axis for axis, length in enumerate(before) if length == 1))
    axes = list(fixed(call.outputs[0]).axes)
    for old, new in _runs(before, after):
        if len(old) == 1 and len(new) == 1:
            axes[new[0]] = x[old[0]]
            continue
        labels = _merged_axes(flow, x, old, before)
        if labels is not None:
            axis, kept = _split_axes(flow, labels, [after[i] for i in new])
            axes[new[axis]] = kept
    return Channels(tuple(axes), x.zero)


def _runs(before: tuple[int, ...], after: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Splits two shapes of equal size into the shortest runs of axes with equal products, without ones."""
    old = [axis for axis, length in enumerate(before) if length != 1]
    new = [axis for axis, length in enumerate(after) if length != 1]
    runs = []
    while old and new:
        left, right = [old.pop(0)], [new.pop(0)]
        sizes = before[left[0]], after[right[0]]
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                left.append(old.pop(0))
                sizes = sizes[0] * before[left[-1]], sizes[1]
            else:
                right.append(new.pop(0))
                sizes = sizes[0], sizes[1] * after[right[-1]]
        runs.append((left, right))
    return runs


def _merged_axes(flow: Flow, x: Channels, old: list[int], before: tuple[int, ...]) -> Labels:
    """The labels of several axes laid end to end; only one of them, the longest, may be cut."""
    cuttable = [axis for axis in old if x[axis] is not None]
    if not cuttable:
        return None
    chosen = max(cuttable, key=lambda axis: before[axis])
    labels = np.asarray(x[chosen])
    for axis in cuttable:
        if axis != chosen:
            flow.atoms.freeze(x[axis])
    around = [1] * len(old)
    around[old.index(chosen)] = before[chosen]
    return np.broadcast_to(labels.reshape(around), [before[axis] for axis in old]).ravel()


def _split_axes(flow: Flow, labels: np.ndarray, sizes: list[int]) -> tuple[int, Labels]:
    """Which of the new axes carries the channels, and its labels.

    If the channels are tied already along all other axes, that axis; otherwise the longest one, by tying
    them.
    """
    table = flow.atoms.find(labels).reshape(sizes)
    rows = [np.moveaxis(table, axis, -1).reshape(-1, length) for axis, length in enumerate(sizes)]
    tied = [axis for axis, row in enumerate(rows) if (row == row[0]).all()]
    axis = max(tied or range(len(sizes)), key=lambda candidate: sizes[candidate])
    return axis, flow.atoms.merge_rows(rows[axis])


def _sizes(target: tuple[int, ...], axes: Axes, count: Count) -> tuple[int, ...]:
    return tuple(
        length if labels is None or length == -1 else count(labels) for length, labels in zip(target, axes, strict=True)
    )


def _transposed(x: Channels, order: tuple[int, ...] | range | list[int]) -> Channels:
    return Channels(tuple(x[axis] for axis in order), x.zero)


def _joined(parts: list[Channels], lengths: list[int], axis: int) -> Labels:
    if all(part[axis] is None for part in parts):
        return None
    return np.concatenate(
        [
            np.zeros(length, dtype=np.int64) if part[axis] is None else part[axis]
            for part, length in zip(parts, lengths, strict=True)
        ]
    )


def _full_key(call: Call, rank: int) -> list:
    """The index with one entry per axis; `None` stands for a new axis."""
    key = call.kwargs["key"] if "key" in call.kwargs else call.args[1]
    entries = list(key) if isinstance(key, tuple | list) else [key]
    if not all(entry is None or entry is Ellipsis or isinstance(entry, int | slice) for entry in entries):
        raise NotUnderstood
    if Ellipsis not in entries:
        entries.append(Ellipsis)
    missing = rank - sum(entry is not None and entry is not Ellipsis for entry in entries)
    place = entries.index(Ellipsis)
    return [*entries[:place], *[slice(None)] * missing, *entries[place + 1 :]]
