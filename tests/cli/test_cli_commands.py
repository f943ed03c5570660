"""The way of a user through all commands; nothing but our own words reaches the terminal."""

from __future__ import annotations

import json
import re

import pytest

import tfbig
from tfbig.pipeline import demo as demo_module
from tfbig.report.report import Report


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def command(tfbig_command, folder, monkeypatch):
    """Runs a command that must succeed, in a folder that all tests here share; returns what it printed."""

    def run(*arguments: object) -> str:
        monkeypatch.chdir(folder)
        outcome = tfbig_command(*arguments)
        assert (outcome.code, outcome.err) == (0, "")
        return outcome.out

    return run


def test_train(command, digits_file, folder):
    told = command(
        *("train", "mlp", "--data", digits_file, "--set", "units=[16]", "--epochs", 2, "--out", "mlp.keras"),
        *("--optimizer", "sgd", "--learning-rate", 0.1, "--loss", "sparse_categorical_crossentropy"),
    )
    lines = told.splitlines()
    assert len([line for line in lines if re.match(r"^\d+/\d+ - .* - loss: ", line)]) == 2
    assert "\b" not in told and "\r" not in told
    assert re.match(r"^Wrote mlp.keras: .*loss \d\.\d{4}", lines[-1])
    assert tfbig.load(folder / "mlp.keras").input_shape == (None, 8, 8, 1)


def test_train_as_json_and_over_what_is_there(command, digits_file):
    options = ("--set", "units=[4]", "--epochs", 1, "--out", "mlp.keras", "--overwrite", "--json")
    values = json.loads(command("train", "mlp", "--data", digits_file, *options))
    assert values["file"] == "mlp.keras" and 0 <= values["val_accuracy"] <= 1


def test_texts_take_their_tokenizer_along(command, folder):
    lines = [
        f"{label}\t{text} {n}"
        for n in range(20)
        for label, text in (("ham", "see you at home"), ("spam", "free money now"))
    ]
    (folder / "messages.txt").write_text("\n".join(lines), encoding="utf-8")
    data, small = ("--data", "text:messages.txt", "--epochs", 1), ("width=8", "depth=1", "heads=2", "mlp=8", "length=6")
    settings = [part for setting in small for part in ("--set", setting)]
    command("train", "text_classifier", *data, *settings, "--learning-rate", 0.01, "--out", "text.keras", "--quiet")
    model = tfbig.load(folder / "text.keras")
    assert model.input_shape == (None, 6) and model.output_shape == (None, 2)
    command("compress", "text.keras", *data, "--recipe", "int8", "--out", "text", "--quiet")
    command("export", "text.keras", "text.tflite", "--quantize", "int8", *data[:2])
    for file in ("text/model.tflite", "text.tflite", "text.keras"):
        assert json.loads(command("measure", file, *data[:2], "--json"))["samples"] > 0


def test_compress(command, model_file, digits_file, folder):
    told = command(
        *("compress", model_file, "--data", digits_file, "--recipe", "balanced", "--out", "result", "--epochs", 2),
        "--saved-model",
    )
    assert "Stage 1 of 2: prune 0.7 + distill\n" in told and "Stage 2 of 2: quantize int8 + distill\n" in told
    assert "Beside float, 2 quantize int8 + distill is" in told
    assert told.endswith("\nThe files and report.html are in result\n")
    assert sorted(path.name for path in (folder / "result").iterdir()) == [
        *("model.keras", "model.tflite", "recipe.json", "report.html", "report.json", "saved_model", "stages"),
    ]
    assert not (folder / "result.partial").exists()


def test_compress_as_json_is_the_report(command, model_file, digits_file, folder):
    options = ("--recipe", "int8", "--out", "result.json", "--epochs", 1, "--json")
    values = json.loads(command("compress", model_file, "--data", digits_file, *options))
    assert values == json.loads((folder / "result.json" / "report.json").read_text())
    assert [row["measurement"]["file"] for row in values["rows"]][-1] == "model.tflite"


def test_compress_keeps_what_was_reached_before_a_stage_failed(tfbig_command, model_file, digits_file, tmp_path):
    (tmp_path / "recipe.yaml").write_text("stages: [{name: prune, sparsity: 0.5}, {name: quantize, exempt: [nothing]}]")
    outcome = tfbig_command(
        *("compress", model_file, "--data", digits_file, "--recipe", "recipe.yaml", "--out", "result", "--epochs", 1),
        "--quiet",
    )
    assert (outcome.code, outcome.out) == (1, "")
    assert re.match(r"^tfbig: Stage 2 \(quantize int8\) failed: .*'nothing'", outcome.err)
    assert outcome.err.endswith("\nThe result of the stages before it is in result\n")
    report = json.loads((tmp_path / "result" / "report.json").read_text())
    assert [row["stage"] for row in report["rows"]] == ["float", "model.keras", "1 prune 0.5"]
    assert report["notes"][0].startswith("The recipe was not finished. Stage 2 (quantize int8) failed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe.yaml", "result"]


def test_export(command, model_file, digits_file, folder):
    assert command("export", model_file, "float.tflite") == "Wrote float.tflite\n"
    options = ("--quantize", "int8", "--data", digits_file, "--json")
    assert json.loads(command("export", model_file, "int8.tflite", *options)) == {"file": "int8.tflite"}
    assert command("export", model_file, "saved", "--quiet") == ""
    assert (folder / "saved" / "saved_model.pb").exists()
    assert (folder / "int8.tflite").stat().st_size < (folder / "float.tflite").stat().st_size


def test_measure(command, digits_file):
    told = command("measure", "float.tflite", "--data", digits_file, "--runs", 5)
    assert re.search(r"^accuracy +\d\d\.\d\d % on 160 samples$", told, re.MULTILINE)
    assert re.search(r"^latency, median +[\d.]+ ms, 1 thread$", told, re.MULTILINE)
    values = json.loads(
        command("measure", "float.tflite", "--data", digits_file, "--json", "--metric", "top5_accuracy")
    )
    assert values["quality_name"] == "top5_accuracy" and values["samples"] == 160
    assert "accuracy" not in command("measure", "saved")


def test_inspect(command):
    told = command("inspect", "int8.tflite")
    assert told.startswith("int8.tflite: int8") and "CONV_2D" in told
    values = json.loads(command("inspect", "int8.tflite", "--json"))
    assert {op["type"] for op in values["ops"]} >= {"CONV_2D", "FULLY_CONNECTED", "SOFTMAX"}


def test_report(command, folder):
    before = json.loads((folder / "result" / "report.json").read_text())
    (folder / "result" / "report.html").unlink()
    told = command("report", "result")
    assert before["verdict"] in told
    assert told.endswith("Wrote result/report.html and result/report.md\n")
    assert "2 quantize int8" in (folder / "result" / "report.html").read_text()
    assert json.loads(command("report", "result", "--json")) == before


def test_demo_saves_everything(command, folder, monkeypatch):
    monkeypatch.setattr(demo_module, "_FLOAT_EPOCHS", 1)
    monkeypatch.setattr(demo_module, "_STAGE_EPOCHS", 1)
    told = command("demo", "--out", "demo")
    assert told.startswith("Training resnet (")
    report = json.loads((folder / "demo" / "report.json").read_text())
    assert [row["stage"] for row in report["rows"]] == [
        *("float", "1 prune 0.8", "model.keras", "saved_model", "2 quantize int8"),
    ]
    assert all(row["measurement"]["samples"] == 359 for row in report["rows"])


def test_debug(command, model_file, digits_file, folder):
    command("export", model_file, "debugged.tflite", "--quantize", "int8", "--data", digits_file)
    options = ("--data", digits_file, "--samples", 4, "--recipe-out", "exempt.yaml")
    told = command("debug", model_file, "debugged.tflite", *options)
    assert re.search(r"^ +stem +CONV_2D +int8 +\d+\.\d ", told, re.MULTILINE)
    assert "Wrote exempt.yaml. Run it: tfbig compress" in told
    assert tfbig.Recipe.load(folder / "exempt.yaml").stages[0][0].exempt
    Report("small", ()).save(folder / "results" / "report.json")
    (folder / "debugged.tflite").rename(folder / "results" / "model.tflite")
    values = json.loads(command("debug", model_file, "results/model.tflite", "--json", "--report", "results"))
    assert values["scheme"] == "int8" and len(values["layers"]) >= 5
    ranked = Report.load(folder / "results" / "report.json").sensitivity["model.tflite"]
    assert [layer["layer"] for layer in ranked] == [layer["layer"] for layer in values["sensitivity"]]
    assert "What rounding each layer costs" in (folder / "results" / "report.html").read_text()


def test_measure_against_another_file_and_for_a_phone(command, model_file):
    command("export", model_file, "one.tflite")
    command("export", model_file, "other.tflite", "--quantize", "dynamic")
    told = command("measure", "other.tflite", "--against", "one.tflite", "--runs", 5, "--commands", "--no-xnnpack")
    assert re.search(r"^multiply-accumulates +[\d,]+$", told, re.MULTILINE)
    assert re.search(
        r"^other.tflite takes [\d.]+ ms, one.tflite [\d.]+ ms: [\d.]+x as fast \(90 % of 5", told, re.MULTILINE
    )
    assert "adb push benchmark_model other.tflite" in told
    values = json.loads(command("measure", "other.tflite", "--against", "one.tflite", "--runs", 5, "--json"))
    assert values["comparison"]["file_b"] == "other.tflite" and values["macs"] > 0 and "commands" not in values


def test_export_for_onnx_and_microcontrollers(command, model_file, folder):
    assert command("export", model_file, "net.onnx", "--opset", 15) == "Wrote net.onnx\n"
    assert command("export", model_file, "net.cc") == "Wrote net.cc\n"
    assert (folder / "net.h").exists()
    assert json.loads(command("measure", "net.onnx", "--json"))["bytes"] == (folder / "net.onnx").stat().st_size


def test_export_with_options_of_post_training(command, tfbig_command, model_file, digits_file, folder):
    data = ("--data", digits_file, "--quiet")
    options = ("--repair", "equalization", "--repair", "rounding", "--calibrate", "mse", "--scheme", "stem=float")
    command("export", model_file, "repaired.tflite", *data, *options, "--integer-io")
    inspection = tfbig.inspect(folder / "repaired.tflite")
    assert [op.reason for op in inspection.float_ops] == ["its layer was named to stay float"]
    outcome = tfbig_command("export", model_file, "no.tflite", *data, "--scheme", "stem")
    assert outcome.code == 2 and "`--scheme` must be GLOB=SCHEME" in outcome.err
