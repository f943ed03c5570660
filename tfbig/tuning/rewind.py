"""A data set from its beginning: the same orders again, as if nothing had been read."""

from __future__ import annotations

import dataclasses

import tensorflow as tf
from tensorflow.core.framework import graph_pb2

from tfbig.data.dataset import Data


def rewound(data: Data) -> Data:
    """The same data, its training split as it was before the first epoch; the test split is left out.

    A shuffled dataset moves on from epoch to epoch. Trials that started where the one before ended could not be run
    again, alone, with the same result.
    """
    return dataclasses.replace(data, train=rewound_dataset(data.train), test=None)


def rewound_dataset(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """A copy of `dataset` whose shuffling begins with its seeds; the dataset itself where TensorFlow cannot copy it."""
    try:
        graph = tf.raw_ops.DatasetToGraphV2(
            input_dataset=tf.data.experimental.to_variant(dataset),
            external_state_policy=1,  # Ignore: state outside the graph, such as a Python function's, stays shared.
            strip_device_assignment=True,
        )
        definition = graph_pb2.GraphDef.FromString(graph.numpy())
        _reseed(definition)
        variant = tf.raw_ops.DatasetFromGraph(graph_def=definition.SerializeToString())
    except (tf.errors.OpError, ValueError):  # Stateful sources, and graphs above protobuf's 2 GB.
        return dataset
    copy = tf.data.experimental.from_variant(variant, dataset.element_spec)
    copy._tfbig_original = dataset  # Python functions live as long as the dataset that they were given to.
    return copy


def _reseed(definition: graph_pb2.GraphDef) -> None:
    """Gives every shuffle a generator of its own in place of the handle to the one that has moved on."""
    shared = {node.input[4] for node in definition.node if node.op == "ShuffleDatasetV3"}
    for node in definition.node:
        if node.name in shared:
            node.op = "DummySeedGenerator"
            node.ClearField("attr")
