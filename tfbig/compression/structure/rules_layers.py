"""Channel rules for the layers with weights: dense, convolutions, normalization, embedding, recurrent."""

from __future__ import annotations

import keras
import numpy as np

from tfbig.compression.structure.atoms import Labels
from tfbig.compression.structure.flow import Channels, Flow, NotUnderstood, count_of, fixed, rule
from tfbig.compression.structure.graph import Call, channel_axis, describe
from tfbig.compression.structure.rules_pointwise import activate


@rule("Dense")
def dense(call: Call, flow: Flow) -> Channels:
    layer, x = call.operation, flow.of(call.inputs[0])
    flow.bind(layer.kernel, 0, x[-1])
    labels = flow.new(layer, layer.kernel, 1)
    flow.bind(layer.bias, 0, labels)
    flow.edit(layer, "units", [labels], count_of(labels))
    zero = layer.bias is None or not any(axis is not None for axis in x.axes[:-1])
    return activate(flow, layer.activation, x.replace(-1, labels, zero=zero))


@rule("Conv1D", "Conv2D", "Conv3D")
def convolution(call: Call, flow: Flow) -> Channels:
    layer, kernel = call.operation, call.operation.kernel
    axis = channel_axis(layer, len(kernel.shape))
    x = flow.only(flow.of(call.inputs[0]), axis)
    labels = flow.new(layer, kernel, len(kernel.shape) - 1)
    if layer.groups == 1:
        flow.bind(kernel, len(kernel.shape) - 2, x[axis])
    else:
        _grouped(flow, layer, x[axis], labels)
    flow.bind(layer.bias, 0, labels)
    flow.edit(layer, "filters", [labels], count_of(labels))
    return activate(flow, layer.activation, x.replace(axis, labels, zero=True))


def _grouped(flow: Flow, layer: keras.Layer, entering: Labels, leaving: Labels) -> None:
    """Ties what must go together in a grouped convolution, whichever way leaves the finer choice.

    Many narrow groups lose whole groups; few wide ones lose the same places in every group.
    """
    kernel, groups = layer.kernel, layer.groups
    if entering is None or leaving is None:
        flow.atoms.freeze(entering)
        flow.atoms.freeze(leaving)
        return
    entering_table, leaving_table = entering.reshape(groups, -1), leaving.reshape(groups, -1)
    if groups >= kernel.shape[-2]:
        whole = flow.atoms.merge_rows(entering_table.T)
        flow.atoms.merge(whole, flow.atoms.merge_rows(leaving_table.T))
        flow.edit(layer, "groups", [whole], count_of(whole))
    else:
        flow.bind(kernel, len(kernel.shape) - 2, flow.atoms.merge_rows(entering_table))
        flow.atoms.merge_rows(leaving_table)


@rule("DepthwiseConv1D", "DepthwiseConv2D")
def depthwise(call: Call, flow: Flow) -> Channels:
    layer, kernel = call.operation, call.operation.kernel
    axis = channel_axis(layer, len(kernel.shape))
    x = flow.only(flow.of(call.inputs[0]), axis)
    flow.bind(kernel, len(kernel.shape) - 2, x[axis])
    labels = _repeat(x[axis], layer.depth_multiplier)
    flow.bind(layer.bias, 0, labels)
    return activate(flow, layer.activation, x.replace(axis, labels, zero=True))


@rule("SeparableConv1D", "SeparableConv2D")
def separable(call: Call, flow: Flow) -> Channels:
    layer, spatial, pointwise = (
        call.operation,
        call.operation.depthwise_kernel,
        call.operation.pointwise_kernel,
    )
    axis = channel_axis(layer, len(spatial.shape))
    x = flow.only(flow.of(call.inputs[0]), axis)
    flow.bind(spatial, len(spatial.shape) - 2, x[axis])
    flow.bind(pointwise, len(pointwise.shape) - 2, _repeat(x[axis], layer.depth_multiplier))
    labels = flow.new(layer, pointwise, len(pointwise.shape) - 1)
    flow.bind(layer.bias, 0, labels)
    flow.edit(layer, "filters", [labels], count_of(labels))
    return activate(flow, layer.activation, x.replace(axis, labels, zero=True))


@rule("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose")
def transposed(call: Call, flow: Flow) -> Channels:
    layer, kernel = call.operation, call.operation.kernel
    axis = channel_axis(layer, len(kernel.shape))
    x = flow.only(flow.of(call.inputs[0]), axis)
    flow.bind(kernel, len(kernel.shape) - 1, x[axis])
    labels = flow.new(layer, kernel, len(kernel.shape) - 2)
    flow.bind(layer.bias, 0, labels)
    flow.edit(layer, "filters", [labels], count_of(labels))
    return activate(flow, layer.activation, x.replace(axis, labels, zero=True))


@rule("BatchNormalization")
def batch_normalization(call: Call, flow: Flow) -> Channels:
    layer = call.operation
    x = flow.only(flow.of(call.inputs[0]), layer.axis)
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        flow.bind(variable, 0, x[layer.axis])
    if layer.gamma is not None:
        flow.scales.append(layer.gamma)
    return Channels(x.axes, x.zero or layer.scale)


@rule("GroupNormalization")
def group_normalization(call: Call, flow: Flow) -> Channels:
    """Statistics are taken within a group of channels, so groups are kept or removed whole."""
    layer = call.operation
    x = flow.only(flow.of(call.inputs[0]), layer.axis)
    labels = x[layer.axis]
    if labels is not None:
        groups = flow.atoms.merge_rows(labels.reshape(layer.groups, -1).T)
        flow.edit(layer, "groups", [groups], count_of(groups))
    flow.bind(layer.gamma, 0, labels)
    flow.bind(layer.beta, 0, labels)
    return Channels(x.axes, x.zero or layer.scale)


@rule("LayerNormalization", "RMSNormalization", "UnitNormalization")
def layer_normalization(call: Call, flow: Flow) -> Channels:
    """Statistics are taken over the whole axis: removing some of it would change what is left."""
    layer = call.operation
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    flow.keepers[describe(layer)] = None
    return Channels(flow.whole(flow.of(call.inputs[0]), *axes).axes, zero=False)


@rule("Embedding")
def embedding(call: Call, flow: Flow) -> Channels:
    layer = call.operation
    x = flow.only(flow.of(call.inputs[0]))
    labels = flow.new(layer, layer.embeddings, 1)
    flow.edit(layer, "output_dim", [labels], count_of(labels))
    return Channels((*x.axes, labels))


@rule("LSTM", "GRU", "SimpleRNN", "Bidirectional")
def recurrent(call: Call, flow: Flow) -> list[Channels]:
    """What enters may shrink; the units stay, for the state feeds back."""
    layer = call.operation
    sides = [layer.forward_layer, layer.backward_layer] if hasattr(layer, "forward_layer") else [layer]
    if not all(hasattr(getattr(side, "cell", None), "kernel") for side in sides):
        raise NotUnderstood
    for mask_or_state in call.inputs[1:]:
        flow.only(flow.of(mask_or_state))
    x = flow.only(flow.of(call.inputs[0]), -1)
    flow.keepers[describe(layer)] = None
    for side in sides:
        flow.bind(side.cell.kernel, 0, x[-1])
    return [fixed(output) for output in call.outputs]


def _repeat(labels: Labels, times: int) -> Labels:
    return None if labels is None else np.repeat(labels, times)
