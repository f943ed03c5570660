"""The applications among the examples train, compress, and work from the exported file; bad input is told in a line."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from test_examples import EXAMPLES, accuracies, run_quick

import tfbig
from tfbig.measurement.flatbuffer import read_litert
from tfbig.measurement.litert import run_litert

MISSING = [
    ("dqn", "gymnasium", "dqn.py needs Gymnasium: pip install gymnasium"),
    ("translate", "sacrebleu", "translate.py needs sacrebleu: pip install sacrebleu"),
]


def run(name: str, folder: Path, *arguments: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *python, str(EXAMPLES / f"{name}.py"), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        capture_output=True,
        text=True,
        timeout=600,
    )


def figures_of(table: str) -> dict[str, float]:
    """The quality of each row of a result's table, as it stands there."""
    rows = re.findall(r"^  (\S.*?)  +\S+\.tflite +(\d[\d.]*) ", table, re.MULTILINE)
    return {stage: float(value) for stage, value in rows}


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


def test_text(tmp_path):
    told = run_quick("text", tmp_path)
    table = figures_of(told)
    assert list(table) == ["float", "1 quantize int8"]
    assert 0.8 < table["float"] < 1 and abs(table["1 quantize int8"] - table["float"]) < 0.05
    assert len(re.findall(r"^(?:ham|spam) +\d+%  \((?:ham|spam)\)  ", told, re.MULTILINE)) == 8
    done = run("text", tmp_path, "predict", "claim the prize at 5550001234 now")
    assert done.returncode == 0 and done.stdout.startswith("spam"), done.stderr[-3000:]


def test_text_says_where_another_encoding_begins(tmp_path):
    (tmp_path / "latin.tsv").write_bytes("ham\tgood\nspam\tcaf\xe9\n".encode("latin-1"))
    done = run("text", tmp_path, "latin.tsv")
    assert done.returncode == 1 and "must be UTF-8 text, received byte 0xe9 in line 2" in done.stderr


def test_text_says_that_the_model_is_another(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    done = run("text", tmp_path, "predict", "hello", "model.tflite")
    assert done.returncode == 1 and "carries no tokenizer.json. Give a file that text.py has saved" in done.stderr
    done = run("text", tmp_path, "predict", "hello", "nothing.tflite")
    assert done.returncode == 1 and "There is no model `nothing.tflite`" in done.stderr


def test_dqn(tmp_path):
    told = run_quick("dqn", tmp_path)
    rows = re.findall(r"^(.+): mean return ([\d.]+)  ([\d.]+) microseconds per decision$", told, re.MULTILINE)
    returns = {stage: float(mean) for stage, mean, _ in rows}
    assert list(returns) == ["float", "1 prune 0.5", "2 quantize int8"]
    assert returns["float"] > 100  # A random policy reaches about 22.
    assert returns["2 quantize int8"] > 0.6 * returns["float"]
    assert accuracies(told)["2 quantize int8"] > 85


@pytest.mark.parametrize(("name", "package", "line"), MISSING)
def test_a_missing_package_is_named(name, package, line, tmp_path):
    hide = f"import runpy, sys; sys.modules['{package}'] = None; sys.argv = sys.argv[1:]; "
    done = run(name, tmp_path, python=("-c", hide + "runpy.run_path(sys.argv[0], run_name='__main__')"))
    assert done.returncode == 1 and line in done.stderr and "Traceback" not in done.stderr


def test_recommend(tmp_path):
    told = run_quick("recommend", tmp_path)
    found = re.findall(r"^(.+): HitRate@10 ([\d.]+)  NDCG@10 ([\d.]+)$", told, re.MULTILINE)
    ranked = {name: (float(hit), float(ndcg)) for name, hit, ndcg in found}
    for name in ("two_tower, float", "two_tower, 2 quantize int8"):
        assert ranked[name] > ranked["popularity"] and ranked[name][1] > ranked["popularity"][1]
    rmse = {name: float(value) for name, value in re.findall(r"^(.+): RMSE ([\d.]+)$", told, re.MULTILINE)}
    assert max(rmse["stars, float"], rmse["stars, 2 quantize int8"]) < rmse["mean of the film"]
    assert (tmp_path / "saved_models" / "recommend" / "stars" / "report.html").is_file()


def test_optimizers(tmp_path):
    told = run_quick("optimizers", tmp_path)
    rows = re.findall(r"^(\w[\w -]+?) +([\d,]+) steps  loss ([\d.]+)$", told, re.MULTILINE)
    losses = {name: float(loss) for name, _, loss in rows}
    assert [int(steps.replace(",", "")) for _, steps, _ in rows] == [4, 4 * 1258, 4 * 40]
    assert losses["mini-batches of 32"] < losses["gradient descent"]
    assert accuracies(told)["1 quantize int8"] > 85
    picture = (tmp_path / "saved_models" / "optimizers" / "curves.html").read_text()
    assert picture.count("<polyline") == 3


def test_big_mlp(tmp_path):
    told = run_quick("big_mlp", tmp_path)
    pruned, distilled = (accuracies(part) for part in told.split("\nBeside float, 1 prune")[:2])
    assert pruned["float"] > 85 and pruned["1 prune 0.5"] > 80
    assert list(distilled) == ["float", "1 distill", "2 quantize int8"] and distilled["2 quantize int8"] > 80


def translations(told: str) -> dict[str, tuple[float, float]]:
    """Exact match of each writer and search, and the percentage of sentences that are token by token Keras's."""
    rows = re.findall(r"^(.+, (?:greedy|4 beams)): exact match ([\d.]+)  BLEU [\d.]+  as Keras ([\d.]+)%$", told, re.M)
    return {name: (float(exact), float(same)) for name, exact, same in rows}


def test_translate(tmp_path):
    told = run_quick("translate", tmp_path)
    found = translations(told)
    assert len(found) == 6 and found["Keras, greedy"][0] > 0.5
    for search in ("greedy", "4 beams"):
        assert found[f"LiteRT, float, {search}"] == (found[f"Keras, {search}"][0], 100)
        assert found[f"LiteRT, int8, {search}"][0] > found[f"Keras, {search}"][0] - 0.1
    files = {name: tmp_path / "saved_models" / "translate" / f"{name}.tflite" for name in ("float", "int8")}
    assert read_litert(files["float"]).signatures == ("encode", "decode_step")
    assert files["int8"].stat().st_size < 0.6 * files["float"].stat().st_size
    for file in files.values():
        done = run("translate", tmp_path, "predict", "two hundred and one", str(file))
        assert done.returncode == 0 and done.stdout.startswith("deux cent"), done.stderr[-3000:]


def test_translate_any_pairs(tmp_path):
    """A corpus of one's own: here numerals and their digits backwards."""
    lines = [f"n{n}\t{' '.join(reversed(str(n)))}\tignored" for n in range(100, 160)]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done = run("translate", tmp_path, "--pairs", "pairs.tsv", "--quick", "--epochs", "2")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("36 pairs to learn from")
    assert translations(done.stdout)["LiteRT, float, greedy"][1] == 100


def test_translate_says_what_is_wrong(tmp_path):
    (tmp_path / "pairs.tsv").write_text("one\tun\n" * 12 + "two deux\n", encoding="utf-8")
    done = run("translate", tmp_path, "--pairs", "pairs.tsv")
    assert done.returncode == 1 and "received 13 lines, of which 12 are such pairs" in done.stderr
    (tmp_path / "latin.tsv").write_bytes("zero\tz\xe9ro\n".encode("latin-1"))
    done = run("translate", tmp_path, "--pairs", "latin.tsv")
    assert done.returncode == 1 and "must be UTF-8 text, received byte 0xe9 in line 1" in done.stderr
