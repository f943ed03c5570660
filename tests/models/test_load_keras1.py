"""Files of Keras 1: nobody can make them today, so they are written here by hand, as that version did."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras
from old_models import difference, inputs_of
from tf_keras import layers

import tfbig

SHAPE = [None, 8, 8, 2]


def write(path: Path, entries: list[dict], arrays: dict[str, list[np.ndarray]], backend: str = "tensorflow") -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": entries})
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in arrays]
        group.attrs["backend"], group.attrs["keras_version"] = backend.encode(), b"1.2.2"
        for name, values in arrays.items():
            layer = group.create_group(name)
            layer.attrs["weight_names"] = [f"{name}_{index}".encode() for index in range(len(values))]
            for index, value in enumerate(values):
                layer[f"{name}_{index}"] = value
    return path


def layer(class_name: str, name: str, **config) -> dict:
    return {"class_name": class_name, "config": {"name": name, "trainable": True, **config}}


IMAGE_LAYERS = [
    layer(
        "Convolution2D",
        "convolution2d_1",
        batch_input_shape=SHAPE,
        input_dtype="float32",
        nb_filter=3,
        nb_row=3,
        nb_col=2,
        init="glorot_uniform",
        activation="relu",
        border_mode="same",
        subsample=[2, 1],
        dim_ordering="tf",
        W_regularizer=None,
        b_regularizer=None,
        activity_regularizer=None,
        W_constraint=None,
        b_constraint=None,
        bias=True,
    ),
    layer("BatchNormalization", "bn", epsilon=1e-3, mode=0, axis=-1, momentum=0.9, gamma_regularizer=None),
    layer("MaxPooling2D", "pool", pool_size=[2, 2], strides=[2, 2], border_mode="valid", dim_ordering="tf"),
    layer("Dropout", "dropout", p=0.5),
    layer("Flatten", "flatten"),
    layer("Dense", "dense_1", output_dim=4, init="glorot_uniform", activation="softmax", bias=True, input_dim=24),
]


def images() -> tf_keras.Model:
    parts = [
        layers.Conv2D(3, (3, 2), strides=(2, 1), padding="same", activation="relu"),
        layers.BatchNormalization(epsilon=1e-3),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    ]
    model = tf_keras.Sequential([tf_keras.Input(SHAPE[1:]), *parts])
    random = np.random.default_rng(0)
    model.set_weights([random.uniform(0.1, 1, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("backend", ["tensorflow", "theano"])
def test_images(backend, tmp_path):
    model = images()
    conv, bn, _, _, dense = (part.get_weights() for part in model.layers)
    if backend == "theano":  # It convolved with the kernel turned over.
        conv = [conv[0][::-1, ::-1], conv[1]]
    path = write(tmp_path / "old.h5", IMAGE_LAYERS, {"convolution2d_1": conv, "bn": bn, "dense_1": dense}, backend)
    assert difference(tfbig.load(path), model, inputs_of(model)) <= 1e-6


def gates(values: list[np.ndarray], order: list[int]) -> list[np.ndarray]:
    """One kernel, recurrent kernel and bias for each gate, in the order of Keras 1."""
    split = [np.split(value, len(order), axis=-1) for value in values]
    return [part[gate] for gate in order for part in split]


def test_recurrent_layers_with_separate_gates(tmp_path):
    shared = {
        "inner_init": "orthogonal",
        "inner_activation": "hard_sigmoid",
        "activation": "tanh",
        "dropout_W": 0.0,
    }
    entries = [
        layer(
            "Embedding",
            "words",
            batch_input_shape=[None, 6],
            input_dim=9,
            output_dim=3,
            init="uniform",
            dropout=0.0,
        ),
        layer(
            "LSTM",
            "lstm",
            output_dim=4,
            return_sequences=True,
            consume_less="cpu",
            forget_bias_init="one",
            **shared,
        ),
        layer("GRU", "gru", output_dim=2, return_sequences=False, consume_less="cpu", **shared),
    ]
    old = tf_keras.Sequential(
        [
            tf_keras.Input((6,)),
            layers.Embedding(9, 3),
            layers.LSTM(4, return_sequences=True, recurrent_activation="hard_sigmoid"),
            layers.GRU(2, recurrent_activation="hard_sigmoid", reset_after=False),
        ]
    )
    words, lstm, gru = (part.get_weights() for part in old.layers)
    arrays = {"words": words, "lstm": gates(lstm, [0, 2, 1, 3]), "gru": gates(gru, [0, 1, 2])}
    new = tfbig.load(write(tmp_path / "old.h5", entries, arrays))
    assert difference(new, old, [np.arange(18).reshape(3, 6) % 9]) <= 1e-6


@pytest.mark.parametrize(
    "entry, text",
    [
        (
            layer("BatchNormalization", "bn", mode=2, batch_input_shape=[None, 3]),
            "layer 'bn'.*mode that Keras dropped",
        ),
        (layer("MaxoutDense", "maxout", batch_input_shape=[None, 3]), "layer 'maxout' of class MaxoutDense"),
        (layer("Merge", "merge", mode="cos", layers=[]), "merges by 'cos'; only sum, mul"),
    ],
)
def test_what_has_no_counterpart_is_named(entry, text, tmp_path):
    with pytest.raises(tfbig.errors.InvalidModel, match=text):
        tfbig.load(write(tmp_path / "old.h5", [entry], {}))
