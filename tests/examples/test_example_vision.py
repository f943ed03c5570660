"""`vision.py` trains on folders, and names a photo from either file alike."""

from __future__ import annotations

import os
import re
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from running import EXAMPLES, accuracies, run, run_quick

import tfbig
from tfbig.measurement.litert import run_litert


def test_vision(tmp_path):
    told = run_quick("vision", tmp_path)
    assert "140 pictures to learn from: circles, squares" in told
    table = accuracies(told)
    assert list(table) == ["float", "1 quantize int8"]
    assert min(table.values()) > 85
    photo = Path("saved_models/drawn_pictures/squares/007.jpg")
    answers = {}
    for name in ("model.keras", "model.tflite"):
        done = run("vision", tmp_path, "predict", str(photo), f"saved_models/vision/{name}")
        assert done.returncode == 0, done.stderr[-3000:]
        answers[name] = dict(map(str.split, re.findall(r"^ +[\d.]+%  \w+$", done.stdout, re.MULTILINE)))
        assert sorted(answers[name].values()) == ["circles", "squares"]
    assert len({tuple(answer.values()) for answer in answers.values()}) == 1  # The same order.
    keras_file, litert = ([float(share[:-1]) for share in answer] for answer in answers.values())
    assert max(abs(a - b) for a, b in zip(keras_file, litert, strict=True)) < 5
    assert {"report.html", "report.json"} <= set(os.listdir(tmp_path / "saved_models" / "vision"))


def test_vision_says_what_is_wrong(tmp_path):
    (tmp_path / "flat").mkdir()
    done = run("vision", tmp_path, "flat")
    assert done.returncode == 1 and "expected one folder of images for each class" in done.stderr
    assert "Traceback" not in done.stderr
    runpy.run_path(str(EXAMPLES / "vision.py"))["draw_pictures"](tmp_path / "drawn", each=5)
    done = run("vision", tmp_path, "drawn", "--architecture", "ResNet50", "--weights", "no_such_file.h5")
    assert done.returncode == 1 and "keras.applications.ResNet50 refused" in done.stderr
    assert "no_such_file.h5" in done.stderr and "Traceback" not in done.stderr
    (tmp_path / "photo.jpg").write_bytes(b"not a photo")
    (tmp_path / "other.tflite").write_bytes(b"")
    done = run("vision", tmp_path, "predict", "photo.jpg", "other.tflite")
    assert done.returncode == 1 and "carries no labels.txt. Give a model that vision.py has saved" in done.stderr
    with zipfile.ZipFile(tmp_path / "other.tflite", "w") as archive:
        archive.writestr("labels.txt", "a\nb")
        archive.writestr("image.json", '{"size": [8, 8]}')
    done = run("vision", tmp_path, "predict", "photo.jpg", "other.tflite")
    assert done.returncode == 1 and "1 image cannot be decoded: `photo.jpg`" in done.stderr
    assert "Traceback" not in done.stderr


def test_vision_carries_the_preprocessing_of_resnet50(tmp_path):
    """ImageNet weights are a file; here one with random weights. Colours swap and lose their mean inside the file."""
    import keras

    vision = runpy.run_path(str(EXAMPLES / "vision.py"))
    keras.utils.set_random_seed(0)
    body = keras.applications.ResNet50(include_top=False, pooling="avg", weights=None, input_shape=(32, 32, 3))
    body.save_weights(tmp_path / "resnet50.weights.h5")
    model = vision["build_model"]("ResNet50", str(tmp_path / "resnet50.weights.h5"), (32, 32, 3), 2)
    picture = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype("float32")
    prepared = picture[..., ::-1] - np.array([103.939, 116.779, 123.68], "float32")
    head = model.get_layer("classes")
    head.kernel.assign(head.kernel / 50)  # Features of random weights are large; probabilities shall not be 0 and 1.
    want, wrong = (np.asarray(head(body(x, training=False))) for x in (prepared, picture))
    (got,) = run_litert(tfbig.export(model, tmp_path / "model.tflite"), [picture])
    np.testing.assert_allclose(got, want, atol=1e-3)
    assert np.abs(got - wrong).max() > 0.01


def test_vision_goes_on_from_a_trained_file(tmp_path):
    import keras
    from keras import layers

    vision = runpy.run_path(str(EXAMPLES / "vision.py"))
    inputs = keras.Input((16, 16, 3))
    features = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(inputs))
    old = keras.Model(inputs, layers.Dense(7, activation="softmax")(features))
    old.save(tmp_path / "old.keras")
    model = vision["build_model"](str(tmp_path / "old.keras"), None, (24, 24, 3), 2)
    photo = np.random.default_rng(0).uniform(0, 255, (1, 24, 24, 3)).astype("float32")
    body, head = keras.Model(model.inputs[0], model.layers[-2].output), model.layers[-1]
    expected = np.maximum(np.asarray(keras.ops.conv(photo / 127.5 - 1, old.layers[1].kernel)), 0).mean((1, 2))
    np.testing.assert_allclose(body(photo), expected, atol=1e-5)
    assert head.units == 2 and model.output_shape == (None, 2)

    keras.Model(inputs, layers.Flatten()(inputs)).save(tmp_path / "flat.keras")
    with pytest.raises(tfbig.errors.InvalidModel, match="flat.keras` has no GlobalAveragePooling2D"):
        vision["build_model"](str(tmp_path / "flat.keras"), None, (24, 24, 3), 2)
