"""The applications among the examples train, compress, and work from the exported file; bad input is told in a line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from test_examples import EXAMPLES, accuracies, run_quick

from tfbig.measurement.flatbuffer import read_litert


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
    keras_file, litert = ([float(share[:-1]) for share in answer] for answer in answers.values())
    assert max(abs(a - b) for a, b in zip(keras_file, litert, strict=True)) < 5
    assert {"report.html", "report.json"} <= set(os.listdir(tmp_path / "saved_models" / "vision"))


def test_vision_says_what_is_wrong(tmp_path):
    (tmp_path / "flat").mkdir()
    done = run("vision", tmp_path, "flat")
    assert done.returncode == 1 and "expected one folder of images for each class" in done.stderr
    assert "Traceback" not in done.stderr


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


def test_dqn(tmp_path):
    told = run_quick("dqn", tmp_path)
    rows = re.findall(r"^(.+): mean return ([\d.]+)  ([\d.]+) microseconds per decision$", told, re.MULTILINE)
    returns = {stage: float(mean) for stage, mean, _ in rows}
    assert list(returns) == ["float", "1 prune 0.5", "2 quantize int8"]
    assert returns["float"] > 100  # A random policy reaches about 22.
    assert returns["2 quantize int8"] > 0.6 * returns["float"]
    assert accuracies(told)["2 quantize int8"] > 85


def test_dqn_names_the_missing_package(tmp_path):
    hide = "import runpy, sys; sys.modules['gymnasium'] = None; sys.argv = sys.argv[1:]; "
    done = run("dqn", tmp_path, python=("-c", hide + "runpy.run_path(sys.argv[0], run_name='__main__')"))
    assert done.returncode == 1 and "dqn.py needs Gymnasium: pip install gymnasium" in done.stderr


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
