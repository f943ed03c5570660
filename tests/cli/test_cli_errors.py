"""Bad input: one clear sentence on standard error, the right exit code, and nothing written."""

from __future__ import annotations

import json
import os
import re

import keras
import numpy as np
import pytest
from PIL import Image

from tfbig.cli.terminal import _ToTheEnd

USAGE, FAILED = 2, 1


@pytest.fixture
def refused(tfbig_command, model_file, digits_file):
    """Asserts that `compress`, with something bad in place of something good, fails with a text and writes nothing."""

    def check(text: str, code: int, *more, **bad) -> None:
        good = {"model": model_file, "data": digits_file, "recipe": "small", "out": "result"}
        given = {**good, **bad}
        before = sorted(os.listdir())
        options = ["--data", given["data"], "--recipe", given["recipe"], "--out", given["out"], "--epochs", 1]
        outcome = tfbig_command("compress", given["model"], *options, *more)
        assert re.search(text, outcome.err), outcome.err
        assert (outcome.code, outcome.out) == (code, "")
        assert len(outcome.err.splitlines()) == 1 and "Traceback" not in outcome.err
        assert sorted(os.listdir()) == before

    return check


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("empty.keras", lambda good: b"", "^tfbig: `empty.keras` is empty. Get the file again from its source."),
        (
            "half.keras",
            lambda good: good[: len(good) // 2],
            "^tfbig: `half.keras` is damaged or truncated: .*not a zip",
        ),
        (
            "text.keras",
            lambda good: b"Hello",
            "^tfbig: `text.keras` is not a model file. A .keras file is a zip archive",
        ),
        (
            "model.tflite",
            lambda good: b"\x1c\0\0\0TFL3",
            "A LiteRT file holds no layers to train or compress: measure it",
        ),
        ("weights.pt", lambda good: b"\x80\x02", "Save the model from Keras with model.save"),
    ],
)
def test_damaged_and_other_files(refused, tmp_path, model_file, name, content, text):
    (tmp_path / name).write_bytes(content(model_file.read_bytes()))
    refused(text, FAILED, model=name)


def test_missing_model(refused):
    refused(r"^tfbig: `gone.keras` does not exist. Expected a model file \(.keras, .h5\)", FAILED, model="gone.keras")


@pytest.fixture
def lambda_file(tmp_path):
    layers = [
        keras.Input((8, 8, 1)),
        keras.layers.Flatten(),
        keras.layers.Lambda(lambda x: x * 2),
        keras.layers.Dense(10),
    ]
    keras.Sequential(layers, name="doubled").save(tmp_path / "doubled.keras")
    return tmp_path / "doubled.keras"


def test_code_in_a_model_needs_unsafe(refused, tfbig_command, lambda_file):
    refused(
        "holds code: layer 'lambda.*' of class Lambda.*If you trust where the file comes from",
        FAILED,
        model=lambda_file,
    )
    outcome = tfbig_command("export", lambda_file, "out.tflite", "--unsafe", "--quiet")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")


@pytest.mark.parametrize(
    ("recipe", "code", "text"),
    [
        ("smal", USAGE, "^tfbig: Unknown recipe 'smal'. Known: balanced, .*Did you mean 'small'?"),
        ("gone.yaml", FAILED, "The recipe file 'gone.yaml' does not exist. Named recipes: balanced, "),
        ({"stages": [{"name": "prune", "sparsity": 1.2}]}, USAGE, r"`sparsity` must be in \(0, 1\), received 1.2."),
        ({"stages": [{"name": "prun"}]}, USAGE, "Unknown technique 'prun'. Known: .*Did you mean 'prune'?"),
        ({"stages": [{"name": "prune", "sparsty": 0.5}]}, USAGE, "Unknown option of prune 'sparsty'.*'sparsity'?"),
        ({"stage": []}, USAGE, "Unknown key of a recipe 'stage'.*Did you mean 'stages'?"),
        ({"stages": []}, USAGE, "`stages` must hold at least one technique"),
    ],
)
def test_recipes(refused, tmp_path, recipe, code, text):
    if isinstance(recipe, dict):
        (tmp_path / "recipe.json").write_text(json.dumps(recipe))
        text, recipe = f"^tfbig: The recipe file 'recipe.json' is no recipe. {text}", "recipe.json"
    refused(text, code, recipe=recipe)


@pytest.mark.parametrize(
    ("data", "code", "text"),
    [
        ("digts", USAGE, "^tfbig: Unknown data name 'digts'. Known: .*Did you mean 'digits'?"),
        ("images:nowhere", FAILED, "There is no folder `nowhere`. Check the path; it is relative to"),
        ("nowhere.npz", FAILED, "There is no file `nowhere.npz`"),
        ("images", USAGE, "Data 'images' must say where the data is: 'images:FOLDER', received 'images'."),
    ],
)
def test_data_names(refused, data, code, text):
    refused(text, code, data=data)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"y_train": lambda y: y + 3, "y_test": lambda y: y + 3},
            "its 10 output units expect labels 0 to 9, received 0 to 12",
        ),
        ({"y_train": lambda y: y - 1}, "Labels out of range: the train split has label -1. Number the classes from 0."),
        (
            {"x_train": lambda x: x[:, :7], "x_test": lambda x: x[:, :7]},
            r"The data does not fit model 'small': it expects inputs of shape \(8, 8, 1\), received \(7, 8, 1\)",
        ),
        (
            {"x_train": lambda x: np.where(x == 1, np.nan, x)},
            "must be finite, received NaN or infinity, first in sample",
        ),
        (
            {"y_train": lambda y: y[:-1]},
            "x and y of the train split must have one length: x has 320 samples, y has 319",
        ),
    ],
)
def test_arrays_that_do_not_fit(refused, digits_arrays, tmp_path, change, text):
    arrays = {name: change.get(name, lambda a: a)(array) for name, array in digits_arrays.items()}
    np.savez(tmp_path / "bad.npz", **arrays)
    refused(text, FAILED, data="bad.npz")


def write_images(folder, classes: int, each: int = 12) -> None:
    rng = np.random.default_rng(0)
    for label in range(classes):
        (folder / f"class{label}").mkdir(parents=True)
        for number in range(each):
            picture = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(picture).save(folder / f"class{label}" / f"{number}.jpg")


def test_image_folders(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(
        "`empty`: expected one folder of images for each class.*received an empty folder", FAILED, data="images:empty"
    )
    write_images(tmp_path / "one", 1)
    refused("received only one class, `class0`. Add a second class.", FAILED, data="images:one")
    write_images(tmp_path / "broken", 2)
    picture = tmp_path / "broken" / "class1" / "3.jpg"
    picture.write_bytes(picture.read_bytes()[:150])
    refused(
        "1 image cannot be decoded: `broken/class1/3.jpg`.*Repair or remove such files", FAILED, data="images:broken"
    )


def test_images_of_three_channels_for_a_model_of_one(refused, tmp_path):
    write_images(tmp_path / "photos", 2)
    refused(r"expects inputs of shape \(8, 8, 1\), received \(8, 8, 3\)", FAILED, data="images:photos")


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--epochs", "0"), USAGE, "`epochs` must be a whole number of at least 1, received 0."),
        (("--optimizer", "adamm"), USAGE, "Unknown optimizer 'adamm'. Known: .*Did you mean 'adam'?"),
        (("--learning-rate", "-1"), USAGE, "`learning_rate` must be .*received -1"),
        (("--loss", "crossentropy"), USAGE, "Unknown loss 'crossentropy'. Known: .*Did you mean '.*crossentropy'?"),
        (("--batch-size", "0"), USAGE, "`batch_size` must be a whole number of at least 1, received 0."),
        (("--image-size", "9"), FAILED, r"expects inputs of shape \(8, 8, 1\), received \(9, 9, 1\)"),
    ],
)
def test_options_out_of_range(refused, options, code, text):
    refused(text, code, *options)


def test_output_that_exists(refused, tmp_path):
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "mine.txt").write_text("mine")
    refused(r"`result` exists already. Choose another output, or replace it with .*\(--overwrite\)", FAILED)
    refused("is the current folder or holds it, and is not replaced", FAILED, "--overwrite", out=".")
    assert (tmp_path / "result" / "mine.txt").read_text() == "mine"


def test_folder_of_a_killed_run(refused, tmp_path):
    (tmp_path / "result.partial").mkdir()
    (tmp_path / "result.partial" / "run.json").write_text("{}")
    refused(
        "`result.partial` holds the finished stages of a run that was killed. Go on from there with --resume", FAILED
    )
    refused("`result.partial` holds a run with another recipe. Give the same recipe", FAILED, "--resume")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("compres",), r"invalid choice: 'compres' .* Did you mean 'compress'\?"),
        ((), "the following arguments are required: COMMAND"),
        (("compress", "m.keras"), "the following arguments are required: --data, --recipe, --out"),
        (("compress", "m.keras", "--epochs", "many"), "argument --epochs: invalid int value: 'many'"),
    ],
)
def test_usage(tfbig_command, arguments, text):
    outcome = tfbig_command(*arguments)
    assert outcome.code == USAGE and outcome.out == ""
    assert re.search(text, outcome.err) and outcome.err.startswith("usage: tfbig")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("train", "resnett", "--data", "digits", "--out", "m.keras"), USAGE, "Unknown model 'resnett'.*'resnet'?"),
        (("train", "mlp", "--data", "digits", "--out", "m.tflite"), USAGE, "`--out` must be the name of a .keras file"),
        (
            ("train", "mlp", "--data", "digits", "--out", "m.keras", "--set", "units"),
            USAGE,
            "`--set` must be KEY=VALUE",
        ),
        (("train", "mlp", "--data", "digits", "--out", "m.keras", "--set", "unit=3"), USAGE, "mlp.*'unit'.*'units'?"),
        (("export", "MODEL", "m.tflit"), USAGE, "has the suffix '.tflit'. Expected one of .*Did you mean '.tflite'?"),
        (("export", "MODEL", "m.tflite", "--quantize", "int9"), USAGE, "Unknown value of `quantize` 'int9'.*'int8'?"),
        (("export", "MODEL", "m.tflite", "--quantize", "int8"), USAGE, "`quantize='int8'` needs `calibration`"),
        (("export", "MODEL", "m.keras", "--quantize", "int8"), USAGE, "`quantize` does not apply to 'm.keras'"),
        (("measure", "gone.tflite"), FAILED, "gone.tflite`.* Check the path"),
        (("measure", "MODEL", "--threads", "0"), USAGE, "`threads` must be a whole number of at least 1, received 0"),
        (("measure", "MODEL", "--data", "digits", "--metric", "acc"), USAGE, "'acc'.*Did you mean 'accuracy'?"),
        (("inspect", "MODEL"), FAILED, "is not a LiteRT file: .*it is a zip file, as .keras files are"),
        (("report", "."), FAILED, "No report `report.json`. Expected the report.json that `tfbig compress` writes"),
    ],
)
def test_other_commands(tfbig_command, model_file, tmp_path, arguments, code, text):
    outcome = tfbig_command(*[model_file if a == "MODEL" else a for a in arguments])
    assert re.search(f"^tfbig: .*{text}", outcome.err), outcome.err
    assert (outcome.code, outcome.out, os.listdir(tmp_path)) == (code, "", [])


def test_a_reader_that_has_seen_enough_stops_no_work():
    reading, writing = os.pipe()
    with open(writing, "w", buffering=1, encoding="utf-8") as stream:
        output = _ToTheEnd(stream)
        output.write("first\n")
        assert os.read(reading, 20) == b"first\n" and not output.isatty()
        os.close(reading)
        for _ in range(3):
            assert output.write("more\n") == 5
            output.flush()


def test_train_finds_out_before_training_that_it_cannot_write(tfbig_command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    outcome = tfbig_command("train", "mlp", "--data", "digits", "--epochs", 1, "--out", tmp_path / "file" / "m.keras")
    assert outcome.code == 1 and "m.keras` cannot be written: " in outcome.err and "Epoch" not in outcome.out
