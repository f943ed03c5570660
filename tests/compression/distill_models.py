"""Small teachers and students, and NumPy's idea of their losses."""

import keras
import numpy as np


def cnn(filters=4, *, name="student", activation="softmax", classes=10, dropout=0.0, seed=None):
    """Two convolutions with BatchNorm, from `(8, 8, 1)` to classes."""
    if seed is not None:
        keras.utils.set_random_seed(seed)
    inputs = x = keras.Input((8, 8, 1))
    for i in range(2):
        x = keras.layers.Conv2D(filters, 3, padding="same", name=f"conv{i}")(x)
        x = keras.layers.BatchNormalization(name=f"norm{i}")(x)
        x = keras.layers.ReLU(name=f"relu{i}")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(dropout)(x) if dropout else x
    outputs = keras.layers.Dense(classes, activation=activation, name="scores", dtype="float32")(x)
    return keras.Model(inputs, outputs, name=name)


def images(count=64, seed=0):
    """Images whose class shows: the square that is bright."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 10, count)
    x = generator.normal(size=(count, 8, 8, 1)).astype("float32") * 0.3
    for i, label in enumerate(y):
        x[i, label // 2 : label // 2 + 3, (label % 2) * 4 : (label % 2) * 4 + 3] += 2
    return x, y


def state(model):
    """The weights by path: freezing a model changes their order."""
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def same(first, second):
    return first.keys() == second.keys() and all(np.array_equal(first[path], second[path]) for path in first)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def soft_targets(teacher, student, temperature):
    """`T^2 KL`, averaged; both are logits."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * np.sum(p * np.log(p / q), axis=-1).mean()


def crossentropy(y, probabilities):
    return -np.log(probabilities[np.arange(len(y)), y]).mean()
